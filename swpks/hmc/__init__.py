"""The process of the management console, its wire, and the command at the other end."""
