"""The control channel: HTTP on a Unix socket, the door of the management console (spec/control.md).

`serve` is all that a server imports at start; the HTTP stack behind it is loaded when the first
request comes.  `routes.VERBS` is the one table that the server's routes, the OpenAPI description
and the tables of spec/control.md are made from or checked against: a new verb is a row there, its
bodies in `bodies`, and its function in `verbs`.
"""
