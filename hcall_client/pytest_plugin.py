"""The fixtures that other projects get by installing swpks; imported by pytest through its entry point."""
