"""The control channel: HTTP on a Unix socket, for the management console (spec/control.md).

A server imports only `serve` at its start.  `serve` loads the HTTP stack when the first request comes.  Each
verb has a row in `hcall_abi.control.VERBS`, and a function in `verbs`.
"""
