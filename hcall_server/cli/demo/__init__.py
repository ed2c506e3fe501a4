"""`swpks demo`."""
