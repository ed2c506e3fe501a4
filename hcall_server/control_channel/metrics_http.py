"""The HTTP of the metrics listener: a request's head to a status, and an answer as bytes.  It does no I/O."""

from __future__ import annotations

import re
from http import HTTPStatus

PATH = "/metrics"

LONGEST_HEAD = 8192
"""Bytes of a request line and its headers, at most."""

_END = re.compile(rb"\r?\n\r?\n")
_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!-~]+) HTTP/1\.[01]\r?")
_TEXT = "text/plain; charset=utf-8"


def head_of(received: bytes | bytearray) -> bytes | None:
    """Return the head of a request without its last newline, None if it is not complete."""
    found = _END.search(received, 0, LONGEST_HEAD)
    return bytes(received[: found.start()]) if found else None


def status_of(head: bytes | None) -> HTTPStatus:
    """Return the status for the head of a request; None is a head that is too long."""
    if head is None:
        return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    line = _LINE.fullmatch(head.split(b"\n", 1)[0])
    if line is None:
        return HTTPStatus.BAD_REQUEST
    # A query is part of the target: this listener has one resource, and no variant of it.
    if line[2] != PATH.encode():
        return HTTPStatus.NOT_FOUND
    return HTTPStatus.OK if line[1] == b"GET" else HTTPStatus.METHOD_NOT_ALLOWED


def answer(status: HTTPStatus, content: bytes, media_type: str) -> bytes:
    """Return a whole answer; the connection ends after it."""
    head = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"content-type: {media_type}",
        f"content-length: {len(content)}",
        "cache-control: no-store",
        "connection: close",
    ]
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        head.append("allow: GET")
    return "\r\n".join([*head, "", ""]).encode() + content


def refusal(status: HTTPStatus) -> bytes:
    """Return the answer for a request that gets no metrics."""
    text = f"{status.value} {status.phrase}: GET {PATH} alone is served here\n"
    return answer(status, text.encode(), _TEXT)
