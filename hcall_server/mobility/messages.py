"""The messages of the mobility channel: their layouts and their fields (spec/migration.md).

    decode(encode(WordMessage(Word.PREPARED, 7, 19))) == WordMessage(Word.PREPARED, 7, 19)

A message is the plaintext of one transport message.  Its first byte is its kind.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from construct import (
    Bytes,
    Const,
    ConstructError,
    GreedyBytes,
    GreedyString,
    Int8ub,
    Int16ub,
    Int32ub,
    Int64ub,
    Prefixed,
    Struct,
    Terminated,
)

from hcall_abi.control_bodies import ArrivalCheck
from hcall_abi.errors import PeerError
from hcall_abi.rules import migration as rules
from hcall_server.platform.custody import Word
from hcall_server.platform.identity import SYSTEM_ID_SIZE, UUID_SIZE

VERSION = 1
PURPOSE = b"swpks migration 1"
MAX_DETAIL = 1000
"""Most bytes of the text of a refusal."""

ATTEMPT = Struct(
    "purpose" / Const(PURPOSE),
    "uuid" / Bytes(UUID_SIZE),
    "epoch" / Int64ub,
    "source" / Bytes(SYSTEM_ID_SIZE),
    "target" / Bytes(SYSTEM_ID_SIZE),
)
"""The prologue of the handshake.  The handshake fails if the two ends have different ones."""

INTRODUCTION = Struct("version" / Const(VERSION, Int16ub), "uuid" / Bytes(UUID_SIZE), "epoch" / Int64ub)
"""The first frame of a connection, in the clear: the attempt, so that the target finds its token.

UUID and epoch are no secrets.  Both are in the prologue as well, so a changed one makes the handshake fail.
"""


class MessageKind(IntEnum):
    """The first byte of a message."""

    NEEDS = 1
    FITS = 2
    REFUSED = 3
    FINAL = 4
    PREPARED = 5
    ACTIVATE = 6
    ACTIVE = 7
    ABORTED = 8


_NEEDS = Struct("facts" / GreedyBytes)
_FITS = Struct(Terminated)
_REFUSED = Struct(
    "rule" / Prefixed(Int8ub, GreedyString("ascii")),
    "detail" / Prefixed(Int16ub, GreedyString("utf-8")),
    Terminated,
)
_FINAL = Struct("generation" / Int64ub, "total" / Int32ub, Terminated)
_WORD = Struct("epoch" / Int64ub, "generation" / Int64ub, Terminated)

LAYOUTS: dict[MessageKind, Struct] = {
    MessageKind.NEEDS: _NEEDS,
    MessageKind.FITS: _FITS,
    MessageKind.REFUSED: _REFUSED,
    MessageKind.FINAL: _FINAL,
    **dict.fromkeys(
        (MessageKind.PREPARED, MessageKind.ACTIVATE, MessageKind.ACTIVE, MessageKind.ABORTED), _WORD
    ),
}
"""The fields that follow the kind."""

_WORDS = {
    Word.PREPARED: MessageKind.PREPARED,
    Word.ACTIVATE: MessageKind.ACTIVATE,
    Word.ACTIVE: MessageKind.ACTIVE,
    Word.ABORTED: MessageKind.ABORTED,
}
_OF_KIND = {kind: word for word, kind in _WORDS.items()}


class Attempt(NamedTuple):
    """One attempt, the same at both ends of its channel; `token` is their secret from the console."""

    uuid: UUID
    epoch: int
    source: bytes
    target: bytes
    token: bytes

    def __repr__(self) -> str:
        return f"Attempt({self.uuid}, epoch {self.epoch})"

    def prologue(self) -> bytes:
        """Return the bytes that the handshake binds."""
        fields = {"uuid": self.uuid.bytes, "epoch": self.epoch, "source": self.source, "target": self.target}
        return bytes(ATTEMPT.build(fields))

    def introduction(self) -> bytes:
        """Return the first frame of a connection."""
        return bytes(INTRODUCTION.build({"uuid": self.uuid.bytes, "epoch": self.epoch}))


def read_introduction(frame: bytes) -> tuple[UUID, int]:
    """Return the UUID and the epoch that a connection is about; PeerError for another frame."""
    try:
        found = Struct("all" / INTRODUCTION, Terminated).parse(frame).all
    except ConstructError:
        raise PeerError(rules.MOBILITY_FORM, "the introduction is not that of this version") from None
    return UUID(bytes=found.uuid), found.epoch


class NeedsMessage(NamedTuple):
    """The needs of the partition, as in the body of `checkArrival`; the target checks them."""

    facts: ArrivalCheck


class Fits(NamedTuple):
    """The partition fits on the target as it is."""


class RefusedMessage(NamedTuple):
    """The target refuses the partition: the id of the broken rule, and the finding."""

    rule: str
    detail: str


class Final(NamedTuple):
    """The partition follows, in `total` bytes; `generation` is that of its store."""

    generation: int
    total: int


class WordMessage(NamedTuple):
    """A word about the attempt `epoch`; `generation` belongs to PREPARED and is 0 in all other words."""

    word: Word
    epoch: int
    generation: int = 0


Message = NeedsMessage | Fits | RefusedMessage | Final | WordMessage


def encode(message: Message) -> bytes:
    """Return the plaintext of a message."""
    match message:
        case NeedsMessage(facts):
            return _built(MessageKind.NEEDS, {"facts": msgspec.json.encode(facts)})
        case Fits():
            return _built(MessageKind.FITS, {})
        case RefusedMessage(rule, detail):
            # The cut may split a character.  The decoder drops the incomplete character, so the text stays
            # UTF-8.
            text = detail.encode()[:MAX_DETAIL].decode(errors="ignore")
            return _built(MessageKind.REFUSED, {"rule": rule, "detail": text})
        case Final():
            return _built(MessageKind.FINAL, message._asdict())
        case WordMessage(word, epoch, generation):
            return _built(_WORDS[word], {"epoch": epoch, "generation": generation})


def _built(kind: MessageKind, fields: dict[str, Any]) -> bytes:
    return bytes([kind]) + bytes(LAYOUTS[kind].build(fields))


def decode(text: bytes) -> Message:
    """Return the message of a plaintext; PeerError for anything else."""
    try:
        kind = MessageKind(text[0])
        return _message(kind, LAYOUTS[kind].parse(text[1:]))
    except (ConstructError, IndexError, ValueError, msgspec.MsgspecError) as error:
        reason = f"a message does not have the form of its kind ({type(error).__name__})"
        raise PeerError(rules.MOBILITY_FORM, reason) from None


def _message(kind: MessageKind, found: Any) -> Message:
    match kind:
        case MessageKind.NEEDS:
            return NeedsMessage(msgspec.json.decode(found.facts, type=ArrivalCheck))
        case MessageKind.FITS:
            return Fits()
        case MessageKind.REFUSED:
            return RefusedMessage(found.rule, found.detail)
        case MessageKind.FINAL:
            return Final(found.generation, found.total)
        case _:
            return WordMessage(_OF_KIND[kind], found.epoch, found.generation)


def kind_of(message: Message) -> str:
    """Return the name of a message's kind, for people."""
    return MessageKind(encode(message)[0]).name
