"""The JSON bodies of etcd's gateway: requests as bytes, answers as structs."""

# Only this module knows JSON, base64 and the spelling of fields.  In etcd's JSON an int64 is a string, and a
# field with the value 0, false or "" is absent.  Keys and values are base64.
#
# An answer is not trusted: its types, signs and sizes are checked.  A proxy may have sent it, or another
# program on the port.  An answer of a wrong form says nothing about the request, so the caller must treat the
# request as one without an answer.

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar

from msgspec import DecodeError, Meta, Struct, ValidationError, field
from msgspec.json import decode

TXN = "/v3/kv/txn"
RANGE = "/v3/kv/range"
COMPACTION = "/v3/kv/compaction"
GRANT = "/v3/lease/grant"
KEEP = "/v3/lease/keepalive"
REVOKE = "/v3/lease/revoke"
TIME_TO_LIVE = "/v3/lease/timetolive"

MAX_TEXT = 200
"""Most characters of a server's message that are shown."""

Int64 = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
Operation = dict[str, Any]
"""A compare or an operation of a transaction, as JSON."""


class AnswerFormError(Exception):
    """An answer does not have the form that etcd's answers have."""


class EtcdHeader(Struct):
    """The header of an answer; `revision` is the store's revision after the request."""

    revision: Int64 = 0


class KeyValue(Struct):
    """One key with its value, its two revisions and its lease."""

    key: bytes
    value: bytes = b""
    create_revision: Int64 = 0
    mod_revision: Int64 = 0
    lease: Int64 = 0


class RangeAnswer(Struct):
    """The keys of a range; `more` if the limit left some out."""

    header: EtcdHeader
    kvs: list[KeyValue] = []
    more: bool = False

    @property
    def first(self) -> KeyValue | None:
        """The first key, None if there is none."""
        return self.kvs[0] if self.kvs else None


class OperationAnswer(Struct):
    """The answer to one operation of a transaction; None for anything but a range."""

    response_range: RangeAnswer | None = None


class TxnAnswer(Struct):
    """The answer to a transaction."""

    header: EtcdHeader
    succeeded: bool = False
    responses: list[OperationAnswer] = []

    def found(self, index: int) -> KeyValue | None:
        """Return the first key of the range at this index; AnswerFormError if there is no such range."""
        ranged = self.responses[index].response_range if index < len(self.responses) else None
        if ranged is None:
            raise AnswerFormError("a transaction's answer lacks a range")
        return ranged.first


class LeaseAnswer(Struct):
    """The answer to a grant; `TTL` in seconds."""

    ID: Annotated[int, Meta(gt=0, le=(1 << 63) - 1)]
    TTL: Annotated[int, Meta(gt=0, le=9_000_000_000)]


class KeptLease(Struct):
    """The lease after a keep-alive; a TTL of 0 says that it has ended."""

    TTL: Int64 = 0


class KeepAnswer(Struct):
    """The answer to a keep-alive.  The gateway puts messages of a stream into `result`."""

    result: KeptLease


class LifeAnswer(Struct):
    """The time of another server's lease; `granted` is 0 if it has ended."""

    granted: Int64 = field(default=0, name="grantedTTL")


class AnyAnswer(Struct):
    """An answer of which nothing is needed."""


class ErrorAnswer(Struct):
    """An error: gRPC's code and etcd's message."""

    code: int = 0
    message: str = ""
    error: str = ""

    @property
    def text(self) -> str:
        """The message, printable and bounded."""
        return printable(self.message or self.error)


def printable(text: str) -> str:
    """Return a text of another program as it may be shown: printable and bounded."""
    return "".join(c if c.isprintable() else "?" for c in text[:MAX_TEXT])


A = TypeVar("A", TxnAnswer, RangeAnswer, LeaseAnswer, KeepAnswer, LifeAnswer, AnyAnswer, ErrorAnswer)


def parsed(body: bytes, form: type[A]) -> A:
    """Return an answer; AnswerFormError for any other form."""
    try:
        # not strict: the strings of int64 are converted
        return decode(body, type=form, strict=False)
    except (DecodeError, ValidationError, UnicodeDecodeError, RecursionError) as error:
        raise AnswerFormError(str(error)[:MAX_TEXT]) from None


def txn(compare: Sequence[Operation], success: Sequence[Operation], failure: Sequence[Operation]) -> bytes:
    """Return the body of a transaction."""
    return _body({"compare": list(compare), "success": list(success), "failure": list(failure)})


def created_at(key: bytes, revision: int) -> Operation:
    """Return a compare: the key was created at this revision; 0 if it must not exist."""
    fields = {"target": "CREATE", "result": "EQUAL", "create_revision": str(revision)}
    return {"key": _text(key), **fields}


def changed_at(key: bytes, revision: int) -> Operation:
    """Return a compare: the key was last put at this revision; 0 if it must not exist."""
    return {"key": _text(key), "target": "MOD", "result": "EQUAL", "mod_revision": str(revision)}


def put(key: bytes, value: bytes, lease: int = 0) -> Operation:
    """Return an operation that puts a key; with a `lease` it is removed when that ends."""
    tied = {"lease": str(lease)} if lease else {}
    return {"request_put": {"key": _text(key), "value": _text(value), **tied}}


def remove(key: bytes, end: bytes = b"") -> Operation:
    """Return an operation that removes a key, if it is there; with an `end`, all keys from `key` up to it."""
    ranged = {"range_end": _text(end)} if end else {}
    return {"request_delete_range": {"key": _text(key), **ranged}}


def get(key: bytes) -> Operation:
    """Return an operation that reads a key."""
    return {"request_range": {"key": _text(key)}}


def one(key: bytes) -> bytes:
    """Return the body of a range of one key, of the present revision."""
    return _body({"key": _text(key)})


def page(start: bytes, end: bytes, limit: int) -> bytes:
    """Return the body of a range from `start` up to `end`, of the present revision."""
    # A range is linearizable unless it says "serializable".
    return _body({"key": _text(start), "range_end": _text(end), "limit": str(limit)})


def compaction(revision: int, *, physical: bool) -> bytes:
    """Return the body that drops the history before a revision.

    If `physical`, the answer comes when the member that gives it has removed it from its pages in use.
    """
    return _body({"revision": str(revision), **({"physical": True} if physical else {})})


def grant(seconds: int) -> bytes:
    """Return the body that asks for a lease."""
    return _body({"TTL": str(seconds)})


def of_lease(lease: int) -> bytes:
    """Return the body of a keep-alive, a revocation, or a question for the time."""
    return _body({"ID": str(lease)})


def _text(value: bytes) -> str:
    return b64encode(value).decode("ascii")


def _body(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode("ascii")
