"""One managed system that runs: its sessions, counters, fault plans and log."""
