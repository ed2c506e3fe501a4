"""The protected anchor card: the component of a managed system that keeps the PKS root key.

It is a file in a folder of its own, and only this module reads and writes it.  Layout and checks:
spec/sealed.md#anchor-card.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from construct import Bytes, Const, ConstructError, Int8ub, Int16ub, OneOf, Struct, Terminated

from hcall_abi.errors import OperatorError, StorageError, SwpksError
from hcall_abi.rules import storage as rules
from hcall_server.files import InPlace, make_folder, make_private, refuse_link, replace_private
from hcall_server.platform.identity import ROOT_KEY_SIZE, SYSTEM_ID_SIZE, SystemIdentity

CARD_LEVELS = (1, 2)
"""The level of a card is the sealed level of the records that its key opens (`SystemIdentity`)."""
CHECK_SIZE = 32

CARD_BODY = Struct(
    "magic" / Const(b"SPKA"),
    "level" / OneOf(Int8ub, CARD_LEVELS),
    "reserved" / Const(0, Int8ub),
    "reserved2" / Const(0, Int16ub),
    "system_id" / Bytes(SYSTEM_ID_SIZE),
    "root_key" / Bytes(ROOT_KEY_SIZE),
)
"""The card without its check value, 56 bytes."""

CARD = Struct("body" / Bytes(CARD_BODY.sizeof()), "check" / Bytes(CHECK_SIZE), Terminated)
"""The whole file, 88 bytes: `check` is the SHA-256 of `body` and finds damage, not forgery."""

CARD_SIZE: int = CARD_BODY.sizeof() + CHECK_SIZE


class AnchorCard:
    """The anchor card as the file `anchor-card` (mode 0600) in a folder of its own (mode 0700)."""

    name = "anchor card"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "anchor-card"
        self._held: SystemIdentity | None = None
        self._place: InPlace | None = None

    def __repr__(self) -> str:
        return f"AnchorCard({str(self._folder)!r})"

    def read(self) -> SystemIdentity | None:
        """Return the identity on the card, None when there is no card yet.

        Raises OperatorError when others may read the card or it is a link, StorageError when it is damaged.
        """
        identity = self._read()
        if identity is not None:
            self._hold(identity)
        return identity

    def write(self, identity: SystemIdentity) -> None:
        """Put `identity` on the card, all or nothing, durable on return.

        Raises StorageError when that fails; the card is then the old one or the new one, whole.
        """
        self._refuse_links()
        try:
            make_folder(self._folder)
            make_private(self._folder)
            replace_private(self._file, _encoded(identity))
            self._hold(identity)
        except OSError as error:
            raise self._damaged(f"can't be written: {error.strerror}") from None

    def moved(self) -> str | None:
        """Return in words why the next start would not find this card's identity; None where it would.

        It costs one stat.  If the file or its time is another, the card is read: an equal copy is accepted.
        """
        trouble = self._place.trouble() if self._place else None
        if trouble is None:
            return None
        try:
            found = self._read()
        except SwpksError as error:
            return error.message
        if found is None or found != self._held:
            return trouble
        self._hold(found)
        return None

    def _read(self) -> SystemIdentity | None:
        self._refuse_links()
        try:
            return self._decoded(self._content())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._damaged(f"can't be read: {error.strerror}") from None

    def _hold(self, identity: SystemIdentity) -> None:
        """Store the identity on the card and the place of its file, so that `moved` can compare them."""
        self._place, self._held = InPlace(self._file, ours=True), identity

    def _refuse_links(self) -> None:
        refuse_link(self._folder)
        refuse_link(self._file)

    def _content(self) -> bytes:
        """Return the file's bytes, one more than a card has at most, if it is a private plain file."""
        descriptor = os.open(self._file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            self._check_private(os.fstat(descriptor))
            return os.read(descriptor, CARD_SIZE + 1)
        finally:
            os.close(descriptor)

    def _check_private(self, card: os.stat_result) -> None:
        """Refuse a card that is no plain file, or one that others than its owner may use."""
        if not stat.S_ISREG(card.st_mode):
            raise self._damaged("is not a plain file")
        for path, mode in ((self._file, card.st_mode), (self._folder, self._folder.stat().st_mode)):
            if stat.S_IMODE(mode) & 0o077:
                raise OperatorError(
                    rules.CARD_MODE,
                    f"anchor card: {path} has mode {stat.S_IMODE(mode):04o}, open to more than its owner",
                )

    def _decoded(self, content: bytes) -> SystemIdentity:
        """Return the identity in a card's bytes, after the check value and then every field."""
        try:
            card = CARD.parse(content)
            if hashlib.sha256(card.body).digest() != card.check:
                raise self._damaged("is damaged: its check value is wrong")
            body = CARD_BODY.parse(card.body)
        except ConstructError:
            reason = f"does not have the layout of level 1 or 2 ({len(content)} bytes read)"
            raise self._damaged(reason) from None
        return SystemIdentity(body.system_id, body.root_key, body.level)

    def _damaged(self, reason: str) -> StorageError:
        return StorageError(
            rules.CARD_WHOLE,
            f"anchor card: {self._file} {reason}",
        )


def _encoded(identity: SystemIdentity) -> bytes:
    body = CARD_BODY.build(identity._asdict() | {"level": identity.sealed_level})
    return bytes(CARD.build({"body": body, "check": hashlib.sha256(body).digest()}))
