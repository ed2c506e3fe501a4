"""`swpks bench`: the main figures of a server, by clients in plain Python.

This package needs neither a compiler nor the source of swpks.  So its figures include the work of the
Python client, which costs about as much as the server.  The benchmark in `bench/` of the source has a
client in C.
"""
