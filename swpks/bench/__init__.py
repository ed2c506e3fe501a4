"""`swpks bench`: the main figures of a server, by clients in plain Python.

`bench/` of the source measures swpks beside its ceilings, with a load generator in C. This package needs
neither a compiler nor the source. So its figures include the Python client, which costs about as much as the
server.
"""
