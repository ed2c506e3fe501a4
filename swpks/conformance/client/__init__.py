"""The judge of a client: a scripted server and a line protocol (spec/conformance.md#a-client).

swpks conformance client --exec 'python -m swpks.conformance.client.adapter --client blocking'
"""

# Judging a client
#
# A client is a library: it does nothing before a program calls it.  So the author writes a small program
# around it, the adapter.  The judge writes commands to the adapter's standard input and reads one line for
# each.  At the same time it is the server at the other end of the data channel.  A case guarantees:
#
#   1. Both sides are judged: each byte that the client sends, and the line that the program gets.
#   2. The order of events is fixed.  The judge is one thread: it sends, then waits for the one thing that has
#      to come.  So a failure can be repeated.
#   3. A case ends.  Each wait has a deadline.  A client that hangs is killed, and started again.
#
# Some cases prove that the client sends nothing.  Most of them need no pause: the judge waits for the
# client's next line, or for the end of the stream.  The client would have sent everything else before.
#
# We dropped a server in a thread of its own.  The server and the line protocol would then be two programs,
# and only a clock could order their events.  We also dropped a library in place of an adapter (a binding of
# the client's language to Python): most clients to be judged are in C, Rust or firmware.
