"""The management console: its process, its wire to commands, and the program of a command."""
