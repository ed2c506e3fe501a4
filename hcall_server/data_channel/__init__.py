"""H-calls over sockets: listeners, the rules of OPEN, one task for each connection, and the reaper."""
