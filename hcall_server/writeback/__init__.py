"""Write-behind: how changes in memory become durable, and how a start recovers them (R-20 to R-23)."""
