"""The `swpks` command."""
