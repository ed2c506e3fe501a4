"""An HTTP answer without the HTTP stack, for a server that can't load it."""

from __future__ import annotations

from http import HTTPStatus

import msgspec

from hcall_abi.control import PROBLEM_JSON
from hcall_abi.problems import problem_of
from hcall_server.control_channel.problems import explained_error


def answer_by_hand(error: Exception) -> bytes:
    """Return a whole answer with the problem of `error`.  The caller closes the connection after it."""
    problem = problem_of(explained_error(error))
    content = msgspec.json.encode(problem)
    head = (
        f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}",
        f"content-type: {PROBLEM_JSON}",
        f"content-length: {len(content)}",
        "connection: close",
    )
    return "\r\n".join([*head, "", ""]).encode() + content
