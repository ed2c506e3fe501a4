"""The protected anchor card: the component of a managed system that stores the PKS root key in clear.

It is a file in a folder of its own, and only this module reads and writes it.  Layout and checks:
spec/sealed.md#anchor-card.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from construct import Bytes, Const, ConstructError, Int8ub, Int16ub, OneOf, Struct, Terminated

from hcall_abi.errors import LaterLevelError, SwpksError
from hcall_abi.later import of_later_release
from hcall_abi.rules import storage as rules
from hcall_server.components.private_file import PrivateFile
from hcall_server.components.seam import Card
from hcall_server.files import InPlace
from hcall_server.platform.identity import ROOT_KEY_SIZE, SYSTEM_ID_SIZE, SystemIdentity

_MAGIC = b"SPKA"
CARD_LEVELS = (1, 2)
"""The level of a card is the sealed level of the records that its key opens (`SystemIdentity`)."""
CHECK_SIZE = 32
RESET_PENDING = 1
"""The flag of `Card.reset_pending`; no other bit is known."""

CARD_BODY = Struct(
    "magic" / Const(_MAGIC),
    "level" / OneOf(Int8ub, CARD_LEVELS),
    "flags" / OneOf(Int8ub, (0, RESET_PENDING)),
    "reserved" / Const(0, Int16ub),
    "system_id" / Bytes(SYSTEM_ID_SIZE),
    "root_key" / Bytes(ROOT_KEY_SIZE),
)
"""The card without its check value, 56 bytes."""

CARD = Struct("body" / Bytes(CARD_BODY.sizeof()), "check" / Bytes(CHECK_SIZE), Terminated)
"""The whole file, 88 bytes: `check` is the SHA-256 of `body` and finds damage, not forgery."""

CARD_SIZE: int = CARD_BODY.sizeof() + CHECK_SIZE
_LONGEST = 4096
"""Bytes of the longest card that is read.

A card of a later level may be longer than a card of this level.  It must not be reported as damaged.
"""


class AnchorCard:
    """The anchor card as the file `anchor-card` (mode 0600) in a folder of its own (mode 0700)."""

    name = "anchor card"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        path, about = folder / "anchor-card", {"private": rules.CARD_MODE, "whole": rules.CARD_WHOLE}
        self._file = PrivateFile(path, self.name, _LONGEST, **about)
        self._held: Card | None = None
        self._place: InPlace | None = None

    def __repr__(self) -> str:
        return f"AnchorCard({str(self._folder)!r})"

    def check(self) -> None:
        """Raise the errors of `read` about links, kinds, modes and access; no content is read."""
        self._file.check()

    def read(self) -> Card | None:
        """Return the content of the card, None when there is no card yet.

        OperatorError if others may read the card, or if it is a link.  StorageError if it is damaged.
        LaterLevelError if a later release wrote it.
        """
        card = self._read()
        if card is not None:
            self._hold(card)
        return card

    def write(self, card: Card) -> None:
        """Replace the content of the card, all or nothing, durable on return.

        Raises StorageError when that fails; the card is then the old one or the new one, whole.
        """
        self._file.write(_encoded(card))
        self._hold(card)

    def moved(self) -> str | None:
        """Return the reason why the next start could not use the content of this card, None if it could.

        A call costs one stat.  If the file was replaced or its time has changed, the card is read.  A card
        with equal content is accepted.
        """
        trouble = self._place.trouble() if self._place else None
        if trouble is None:
            return None
        try:
            found = self._read()
        except SwpksError as error:
            return error.message
        # Accept a card with equal content, such as one from a restored folder.  Later calls compare with
        # this file.
        if found is None or found != self._held:
            return trouble
        self._hold(found)
        return None

    def _read(self) -> Card | None:
        content = self._file.read()
        return None if content is None else self._decoded(content)

    def _hold(self, card: Card) -> None:
        """Remember the content of the card and the identity of its file.  `moved` compares both."""
        try:
            self._place, self._held = InPlace(self._file.path, ours=True), card
        except OSError as error:
            raise self._file.damaged(f"can't be found again: {error.strerror or error}") from None

    def _decoded(self, content: bytes) -> Card:
        """Return the content of a card from its bytes.

        The level is checked first, then the check value, then each field.
        """
        if (level := _later_level(content)) is not None:
            message = f"{self.name}: {self._file.path} has {of_later_release(level, CARD_LEVELS)}"
            raise LaterLevelError(rules.STATE_LEVEL, message)
        try:
            card = CARD.parse(content)
            # The check value is compared before the fields are read.  So a damaged field is reported as
            # damage, not as a wrong value.
            if hashlib.sha256(card.body).digest() != card.check:
                raise self._file.damaged("is damaged: its check value is wrong")
            body = CARD_BODY.parse(card.body)
        except ConstructError:
            reason = f"does not have the layout of level 1 or 2 ({len(content)} bytes read)"
            raise self._file.damaged(reason) from None
        identity = SystemIdentity(body.system_id, body.root_key, body.level)
        return Card(identity, reset_pending=bool(body.flags & RESET_PENDING))


def _encoded(card: Card) -> bytes:
    identity = card.identity
    flags = RESET_PENDING if card.reset_pending else 0
    body = CARD_BODY.build(identity._asdict() | {"level": identity.sealed_level, "flags": flags})
    return bytes(CARD.build({"body": body, "check": hashlib.sha256(body).digest()}))


def _later_level(content: bytes) -> int | None:
    """Return the level of a card that a later release wrote; None for any other content.

    In all levels, a card begins with magic and level, and ends with the check value.  So the card of a
    later release is recognised, and not reported as damaged.  A damaged card would be replaced by the copy
    that a TPM unwraps.
    """
    body, check = content[:-CHECK_SIZE], content[-CHECK_SIZE:]
    if not body.startswith(_MAGIC) or len(body) <= len(_MAGIC) or hashlib.sha256(body).digest() != check:
        return None
    level = body[len(_MAGIC)]
    return level if level > max(CARD_LEVELS) else None
