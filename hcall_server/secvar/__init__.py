"""Signed updates of secure-boot variables: the decision about each.  Pure: no I/O, no clock."""
