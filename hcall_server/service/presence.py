"""Proof of physical presence: a person writes a word into the state folder.

The contract: spec/erase.md#physical-presence.
"""

# Why a file, and why its tries are counted first
#
# The real system asks for a person at the machine.  Here the state folder is the machine: only its user may
# write to it.  A network client, the console and a guest reach sockets only, so none of them can write the
# word.  The word is printed and not stored.  So a script that only repeats the command erases nothing.
#
# A try is counted, durably, before the words are compared.  Otherwise a caller could kill the command before
# the count, and the try would be free.  A count that is one too high costs the person a new word at most.
#
# The presence file is removed with each try.  If it stayed, a repeated command would use up all tries with
# one typing mistake.

from __future__ import annotations

import hashlib
import hmac
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec

from hcall_abi.errors import OperatorError
from hcall_abi.rules import service as rules
from hcall_abi.scarcity import scarcity_of
from hcall_server.files import make_folder, refuse_link, replace_private, sync_folder
from hcall_server.keystore.store import Entropy
from hcall_server.service.entropy import checked
from hcall_server.service.state_folder import check_private, trouble

ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
"""The characters of a word: 32, so that each random byte chooses one without bias; no I, O, 0 or 1."""
WORD_SIZE = 12
"""Characters of a word: 60 random bits, far more than three tries can find."""
LIFETIME = 600.0
"""Seconds for which a word may be used."""
TRIES = 3
"""Presence files that are compared with one word."""

_LONGEST_FILE = 64
_LONGEST_REQUEST = 1024
_END = re.compile(rb"[ \t]*(?:\r?\n)?\Z")


class PresenceRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of `asmi/request`: the action, the word that confirms it, and the tries so far."""

    action: str
    word_sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    time: float
    tries: Annotated[int, msgspec.Meta(ge=0, le=TRIES)]


class Presence:
    """The proof that the caller may write to a state folder, which the caller has locked.

    `now` returns the seconds of a clock that goes on between two commands, such as `time.time`.  Each method
    raises OperatorError, StorageError or ScarcityError if a file cannot be read or changed.
    """

    def __init__(self, folder: Path, now: Callable[[], float], entropy: Entropy) -> None:
        self.path = folder / "presence"
        self.older_removed = False
        """Whether the last `ask` has removed a presence file, which was older than its word."""
        self._folder = folder
        self._asmi = folder / "asmi"
        self._request = self._asmi / "request"
        self._now = now
        self._entropy = checked(entropy)

    def __repr__(self) -> str:
        return f"Presence({str(self._folder)!r})"

    def ask(self, action: str) -> str:
        """Return a new word for one action.  Older words are no longer valid.  Durable on return.

        If there is a presence file already, it is removed: it can only hold an older word.
        """
        word = "".join(ALPHABET[byte % len(ALPHABET)] for byte in self._entropy(WORD_SIZE))
        with self._changes():
            refuse_link(self._asmi)
            make_folder(self._asmi)
            check_private(self._asmi)
            self.older_removed = _remove(self.path)
            self._store(PresenceRequest(action, _digest(word.encode()), float(self._now()), 0))
        return word

    def proven(self, action: str) -> bool:
        """Return whether the presence file holds the word for this action.  A word is valid once.

        If there is no valid request or no presence file, return False.  The caller must `ask` for a new
        word then.  OperatorError if the word in the file is wrong.  OperatorError also if the file is not a
        plain file of this user: this does not count as a try.
        """
        request = self._valid(action)
        if request is None or (found := _content(self.path, _LONGEST_FILE)) is None:
            return False
        counted = msgspec.structs.replace(request, tries=request.tries + 1)
        with self._changes():
            self._store(counted)
            _remove(self.path)
        right = hmac.compare_digest(_digest(_word(found)), request.word_sha256)
        if right or counted.tries == TRIES:
            with self._changes():
                _remove(self._request)
        if not right:
            raise OperatorError(rules.PRESENCE_WORD, self._wrong(TRIES - counted.tries))
        return True

    def _valid(self, action: str) -> PresenceRequest | None:
        """Return the request for this action, None if there is no valid one."""
        with self._changes():
            refuse_link(self._asmi)
        request = self._stored()
        if request is None or request.action != action or request.tries >= TRIES:
            return None
        return request if 0 <= self._now() - request.time < LIFETIME else None

    def _stored(self) -> PresenceRequest | None:
        """Return the request in the file.  None if the file has any other bytes than `_store` writes."""
        try:
            content = _content(self._request, _LONGEST_REQUEST) or b""
            request = msgspec.json.decode(content, type=PresenceRequest)
        except (OperatorError, msgspec.DecodeError, UnicodeDecodeError):
            return None
        return request if msgspec.json.encode(request) == content else None

    def _store(self, request: PresenceRequest) -> None:
        replace_private(self._request, msgspec.json.encode(request))

    def _wrong(self, left: int) -> str:
        what = f"{self.path} held a wrong word and was removed"
        if not left:
            return f"{what}; no try is left: repeat the command for a new word"
        tries = "1 try is" if left == 1 else f"{left} tries are"
        return f"{what}; {tries} left: write the word into the file again, then repeat the command"

    @contextmanager
    def _changes(self) -> Iterator[None]:
        """Raise the error with its rule if the block fails to change a file."""
        try:
            yield
        except OSError as error:
            raise (scarcity_of(error) or trouble(error, self._folder)) from None


def _content(path: Path, most: int) -> bytes | None:
    """Return the content of a plain file of this user, None if there is no file.  Never wait for a fifo.

    If the file is longer than `most` bytes, return the first `most + 1` bytes.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise (scarcity_of(error) or _not_plain(path, error.strerror or "")) from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise _not_plain(path, "no plain file")
        if found.st_uid != os.geteuid():
            raise _not_plain(path, f"owned by user {found.st_uid}")
        return os.read(descriptor, most + 1)
    except OSError as error:
        raise (scarcity_of(error) or _not_plain(path, error.strerror or "")) from None
    finally:
        os.close(descriptor)


def _not_plain(path: Path, why: str) -> OperatorError:
    return OperatorError(
        rules.PRESENCE_FILE, f"{path}: {why}; remove it, then write the word into a new file"
    )


def _remove(path: Path) -> bool:
    """Remove a file, durable on return; return whether it was there.

    Of a link, the link itself is removed.
    """
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except IsADirectoryError:
        raise _not_plain(path, "a folder") from None
    sync_folder(path.parent)
    return True


def _word(content: bytes) -> bytes:
    """Return the word without trailing blanks and line end.  Content that is too long is not changed."""
    return content if len(content) > _LONGEST_FILE else _END.sub(b"", content, count=1)


def _digest(word: bytes) -> str:
    return hashlib.sha256(word).hexdigest()
