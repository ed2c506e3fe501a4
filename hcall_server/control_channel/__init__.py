"""The control channel: HTTP on a Unix socket, for the management console (spec/control.md).

At start a server imports only `serve`.  It loads the HTTP stack when the first request comes.  The verbs are
rows of `hcall_abi.control.VERBS`; their functions are in `verbs`.
"""
