"""The HTTP of the metrics listener: a request's head to a status, and an answer as bytes.  It does no I/O."""

from __future__ import annotations

import re
from http import HTTPStatus

PATH = "/metrics"

LONGEST_HEAD = 8192
"""Bytes of a request line and its headers, at most."""

_END = re.compile(rb"\r?\n\r?\n")
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_LINE = re.compile(rb"(%b) ([!-~]+) HTTP/1\.[01]\r?" % _TOKEN)
_BEGUN = re.compile(rb"(?:%b(?: (?:[!-~]+(?: (\S*)\r?)?)?)?)?" % _TOKEN)
"""The first bytes of a request line; group 1 is the begun version."""

_VERSIONS = (b"HTTP/1.0", b"HTTP/1.1")
# A header line that is continued on the next line is obsolete, and a server may refuse it (RFC 9112, 5.2).
_HEADER = re.compile(rb"%b:[\t -~\x80-\xff]*\r?" % _TOKEN)
_TARGET = re.compile(rb"(?:(?i:http)://[^/?#@]+)?(/.*)")
"""The origin form, or the absolute form, which each server has to accept (RFC 9112, 3.2.2)."""

_TEXT = "text/plain; charset=utf-8"


def head_of(received: bytes | bytearray) -> bytes | None:
    """Return the head of a request without its last newline, None if it is not complete."""
    found = _END.search(received, 0, LONGEST_HEAD)
    return bytes(received[: found.start()]) if found else None


def can_begin(received: bytes | bytearray) -> bool:
    """Say whether a request may begin with these bytes; if not, no further byte has to be awaited."""
    line, newline, _ = bytes(received).partition(b"\n")
    if newline:
        return _LINE.fullmatch(line) is not None
    begun = _BEGUN.fullmatch(line)
    return begun is not None and any(version.startswith(begun[1] or b"") for version in _VERSIONS)


def status_of(head: bytes | None) -> HTTPStatus:
    """Return the status for the head of a request; None is a head that is too long."""
    if head is None:
        return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    first, *headers = head.split(b"\n")
    line = _LINE.fullmatch(first)
    if line is None or not all(map(_HEADER.fullmatch, headers)):
        return HTTPStatus.BAD_REQUEST
    target = _TARGET.fullmatch(line[2])
    # A query is part of the target: this listener has one resource, and no variant of it.
    if target is None or target[1] != PATH.encode():
        return HTTPStatus.NOT_FOUND
    return HTTPStatus.OK if line[1] in (b"GET", b"HEAD") else HTTPStatus.METHOD_NOT_ALLOWED


def fitting(received: bytes, content: bytes) -> bytes:
    """Return an answer as the request wants it: HEAD gets all but the content, by every status."""
    if not received.startswith(b"HEAD "):
        return content
    head, end, _ = content.partition(b"\r\n\r\n")
    return head + end


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
        head.append("allow: GET, HEAD")
    return "\r\n".join([*head, "", ""]).encode() + content


def refusal(status: HTTPStatus) -> bytes:
    """Return the answer for a request that gets no metrics."""
    text = f"{status.value} {status.phrase}: GET {PATH} alone is served here\n"
    return answer(status, text.encode(), _TEXT)
