"""A search for secrets in bytes: it finds any eight successive bytes of a secret, also in hex and base64."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from pathlib import Path

WINDOW = 8
"""Bytes of a secret in a row that count as a leak."""
_DIGITS = 11
"""Digits of base64 that hold at least as many bits as a window."""


def windows(secret: bytes) -> set[bytes]:
    """Return each eight successive bytes of a secret: raw, in hex and in base64."""
    found = set()
    for at in range(len(secret) - WINDOW + 1):
        window = secret[at : at + WINDOW]
        found |= {window, window.hex().encode(), window.hex().upper().encode()}
    for shift in range(3):
        found |= set(_base64(secret, shift))
    return found


def _base64(secret: bytes, shift: int) -> Iterator[bytes]:
    """Yield the base64 forms of all windows, for a secret that follows `shift` other bytes."""
    encoded = (base64.b64encode, base64.urlsafe_b64encode)
    first, last = -(-shift * 8 // 6), (shift + len(secret)) * 8 // 6
    for digits in (encode(bytes(shift) + secret)[first:last] for encode in encoded):
        yield from (digits[at : at + _DIGITS] for at in range(len(digits) - _DIGITS + 1))


class Search:
    """A search for secrets, which have names."""

    def __init__(self, secrets: Mapping[str, bytes]) -> None:
        self._windows = {name: windows(secret) for name, secret in secrets.items()}

    def within(self, content: bytes) -> set[str]:
        """Return the names of the secrets of which these bytes contain a window."""
        return {name for name, found in self._windows.items() if any(each in content for each in found)}

    def below(self, folder: Path) -> dict[str, set[str]]:
        """Return the files below a folder with a secret in content or name, and the names of the secrets."""
        found: dict[str, set[str]] = {}
        for path in folder.rglob("*"):
            name = str(path.relative_to(folder))
            content = path.read_bytes() if path.is_file() else b""
            if secrets := self.within(content) | self.within(name.encode()):
                found[name] = secrets
        return found
