"""The control channel: HTTP on a Unix socket, the door of the management console (spec/control.md).

`serve` is all that a server imports at start; the HTTP stack behind it is loaded when the first
request comes.  The verbs are rows of `hcall_abi.control.VERBS`; their functions are in `verbs`.
"""
