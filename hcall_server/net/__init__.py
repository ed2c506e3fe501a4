"""The service: sockets, sessions, deadlines, the state folder and the running machine."""
