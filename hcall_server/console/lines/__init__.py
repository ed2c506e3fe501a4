"""The console's literal command lines: a module for each family, `run` for all (spec/console.md#lines)."""
