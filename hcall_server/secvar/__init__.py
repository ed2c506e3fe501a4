"""Signed updates of secure-boot variables: who may change what, decided without I/O or a clock."""
