"""The server process: settings, the state folder, the assembly of a machine, start and stop."""
