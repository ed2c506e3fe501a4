"""Write-behind: how changes in memory become durable, and how they come back (R-20 to R-23)."""
