"""TPM 2.0 commands as bytes, and answers as values.  Pure; TPM 2.0 Library, parts 2 and 3, has the layouts.

A secret is sealed below a primary key.  The TPM makes that key anew for each operation, from its own seed
and the template here.  So nothing is stored in the TPM.  The template must never change.  A changed
template would make another key, and no blob would unseal.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from construct import Bytes, ConstructError, GreedyBytes, Int16ub, Int32ub, Prefixed, Struct, Terminated

from hcall_server.components.tpm.bounds import check_size

HEADER_SIZE = 10
ANSWER_MOST = 4096
"""Bytes of the longest answer that is read; TPMs have 4096 as their own limit."""
BLOB_MOST = 1024
"""Bytes of the longest blob that is sent: the template makes some 210."""


class TpmCommand(IntEnum):
    """The commands that are used, by their codes."""

    CREATE_PRIMARY = 0x131
    CREATE = 0x153
    LOAD = 0x157
    UNSEAL = 0x15E
    FLUSH_CONTEXT = 0x165
    START_AUTH_SESSION = 0x176
    GET_TEST_RESULT = 0x17C


class TpmAnswer(NamedTuple):
    """An answer: its response code (0: success), and the bytes after its header.  The body may be secret."""

    code: int
    body: bytes

    def __repr__(self) -> str:
        return f"TpmAnswer(code={self.code:#05x}, {len(self.body)} bytes hidden)"


class MalformedAnswerError(ValueError):
    """Bytes that are no answer of a TPM; the text is the reason."""


_SESSIONS, _NO_SESSIONS = 0x8002, 0x8001
_OWNER = 0x40000001
_SIZED = Prefixed(Int16ub, GreedyBytes)
_NO_BYTES = _SIZED.build(b"")
_EMPTY_PASSWORD = bytes.fromhex("40000009 0000 00 0000")
"""One session, the password: handle, nonce, attributes, the empty password."""

_ECC, _KEYED_HASH, _SHA256, _NULL, _AES, _CFB, _P256 = 0x23, 0x08, 0x0B, 0x10, 0x06, 0x43, 0x03
# After wrong passwords of any program, a TPM refuses all objects without noDA.  The root key must still
# unwrap then.  fixedTPM and fixedParent: the blob cannot be moved to another TPM.
_FIXED_TPM, _FIXED_PARENT, _SENSITIVE_DATA_ORIGIN, _USER_WITH_AUTH = 1 << 1, 1 << 4, 1 << 5, 1 << 6
_NO_DA, _RESTRICTED, _DECRYPT = 1 << 10, 1 << 16, 1 << 17
_BOUND = _FIXED_TPM | _FIXED_PARENT | _USER_WITH_AUTH | _NO_DA


def _words(*values: int) -> bytes:
    return b"".join(map(Int16ub.build, values))


PRIMARY_TEMPLATE: bytes = (
    _words(_ECC, _SHA256)
    + Int32ub.build(_BOUND | _SENSITIVE_DATA_ORIGIN | _RESTRICTED | _DECRYPT)
    + _NO_BYTES  # no policy
    # the cipher for its children, no signing scheme, the curve, no KDF
    + _words(_AES, 128, _CFB, _NULL, _P256, _NULL)
    + _NO_BYTES * 2  # an empty point, because the TPM computes it
)
"""The primary key's public area (TPMT_PUBLIC): ECC P-256, storage key."""

SEALED_TEMPLATE: bytes = (
    _words(_KEYED_HASH, _SHA256) + Int32ub.build(_BOUND) + _NO_BYTES + _words(_NULL) + _NO_BYTES
)
"""The public area of a sealed secret (TPMT_PUBLIC): bound to this TPM and its primary key, no password."""

_HEADER = Struct("tag" / Int16ub, "size" / Int32ub, "code" / Int32ub)
_AUTHORISED = Struct("parameters" / Prefixed(Int32ub, GreedyBytes), "session" / Bytes(5), Terminated)
_MADE = Struct("handle" / Int32ub, "rest" / _AUTHORISED)
_CREATED = Struct("private" / _SIZED, "public" / _SIZED, "how" / GreedyBytes)
_UNSEALED = Struct("data" / _SIZED, Terminated)
_BLOB = Struct("private" / _SIZED, "public" / _SIZED, Terminated)


class SealedBlob(NamedTuple):
    """The two parts of a blob, each without its length: TPM2B_PRIVATE and TPM2B_PUBLIC."""

    private: bytes
    public: bytes

    def joined(self) -> bytes:
        """Return the blob as it is stored, the lengths included."""
        return bytes(_BLOB.build(self._asdict()))

    @classmethod
    def split(cls, blob: bytes) -> SealedBlob:
        """Return the parts of a stored blob; ValueError if it has another layout."""
        if len(blob) > BLOB_MOST:
            raise ValueError(f"has {len(blob)} bytes, more than any blob of a TPM")
        try:
            parts = _BLOB.parse(blob)
        except ConstructError:
            raise ValueError(f"does not have the layout of a TPM's blob ({len(blob)} bytes)") from None
        return cls(parts.private, parts.public)


def create_primary() -> bytes:
    """Return the command that makes the primary key; `handle_of` reads its answer."""
    sensitive = _SIZED.build(_NO_BYTES * 2)
    body = sensitive + _SIZED.build(PRIMARY_TEMPLATE) + _NO_BYTES + Int32ub.build(0)
    return _command(TpmCommand.CREATE_PRIMARY, _OWNER, body)


def create(parent: int, secret: bytes) -> bytes:
    """Return the command that seals `secret` below a key; `created` reads its answer."""
    check_size(secret)
    sensitive = _SIZED.build(_NO_BYTES + _SIZED.build(secret))
    body = sensitive + _SIZED.build(SEALED_TEMPLATE) + _NO_BYTES + Int32ub.build(0)
    return _command(TpmCommand.CREATE, parent, body)


def load(parent: int, blob: SealedBlob) -> bytes:
    """Return the command that loads a blob below its key; `handle_of` reads its answer."""
    return _command(TpmCommand.LOAD, parent, blob.joined())


def unseal(handle: int) -> bytes:
    """Return the command that reads the secret of a loaded blob; `unsealed` reads its answer."""
    return _command(TpmCommand.UNSEAL, handle, b"")


def flush_context(handle: int) -> bytes:
    """Return the command that removes a loaded object from the TPM's memory."""
    return _framed(_NO_SESSIONS, TpmCommand.FLUSH_CONTEXT, Int32ub.build(handle))


def get_test_result() -> bytes:
    """Return a command that makes nothing in the TPM; its answer shows that the TPM serves this client."""
    return _framed(_NO_SESSIONS, TpmCommand.GET_TEST_RESULT, b"")


def answer_size(header: bytes) -> int:
    """Return the number of bytes after an answer's 10-byte header; MalformedAnswerError for a bad one."""
    found = _HEADER.parse(header)
    if found.tag not in (_SESSIONS, _NO_SESSIONS):
        raise MalformedAnswerError(f"begins with the tag {found.tag:#06x}")
    # Any program may be at the other end of the socket and send this size.  The bound keeps its bytes from
    # filling the memory.
    if not HEADER_SIZE <= found.size <= ANSWER_MOST:
        raise MalformedAnswerError(f"states a length of {found.size} bytes")
    return int(found.size) - HEADER_SIZE


def answer_of(header: bytes, body: bytes) -> TpmAnswer:
    """Return an answer from its header and the bytes that follow."""
    return TpmAnswer(_HEADER.parse(header).code, body)


def handle_of(answer: TpmAnswer) -> int:
    """Return the handle of the object that CREATE_PRIMARY or LOAD has made."""
    return int(_read(_MADE, answer.body).handle)


def created(answer: TpmAnswer) -> SealedBlob:
    """Return the blob that CREATE has made."""
    found = _read(_CREATED, _read(_AUTHORISED, answer.body).parameters)
    return SealedBlob(found.private, found.public)


def unsealed(answer: TpmAnswer) -> bytes:
    """Return the secret that UNSEAL has read."""
    return bytes(_read(_UNSEALED, _read(_AUTHORISED, answer.body).parameters).data)


def _command(code: TpmCommand, handle: int, body: bytes) -> bytes:
    """Return a command about one object, authorised by the empty password."""
    authorised = Prefixed(Int32ub, GreedyBytes).build(_EMPTY_PASSWORD)
    return _framed(_SESSIONS, code, Int32ub.build(handle) + authorised + body)


def _framed(tag: int, code: TpmCommand, rest: bytes) -> bytes:
    header: bytes = _HEADER.build({"tag": tag, "size": HEADER_SIZE + len(rest), "code": code})
    return header + rest


def _read(layout: Struct, body: bytes) -> Struct:
    try:
        return layout.parse(body)
    except ConstructError:
        raise MalformedAnswerError(f"has another layout ({len(body)} bytes after its header)") from None
