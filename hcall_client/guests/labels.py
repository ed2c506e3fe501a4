"""Labels as operating systems write them, and as people read them.

To the keystore a label is plain bytes.  Operating systems agree to begin theirs with a 16-byte
header that says who uses the object (spec/structures.md#label); firmware writes none.
"""

from __future__ import annotations

from typing import NamedTuple

from construct import ConstructError

from hcall_abi.structures import LABEL_HEADER, LABEL_HEADER_SIZE, OS_COMMON, OS_LINUX

COMPONENT_SIZE = 8
"""Most bytes that a component's name may have."""
SB_VERSION = b"SB_VERSION"
"""Label of the firmware-owned object that tells of dynamic secure-boot keys; it has no header."""
OS_NAMES = {OS_LINUX: "Linux", OS_COMMON: "common"}
"""Who an operating system's flag in the header stands for."""


_UTF16 = "utf16:"


class OsLabel(NamedTuple):
    """A label with its header taken apart; `component` comes without its padding."""

    component: bytes
    os: int
    name: bytes

    @property
    def text(self) -> str | None:
        """The name as text if it is in UTF-16, little-endian, and of printable ASCII; else None."""
        characters, zeros = self.name[::2], self.name[1::2]
        if len(characters) != len(zeros) or not characters or any(zeros):
            return None
        text = characters.decode("latin-1")
        return text if text.isascii() and text.isprintable() else None


def os_label(component: str | bytes, name: str | bytes, os: int = OS_LINUX) -> bytes:
    """Return the label of an operating system's object.

    `component` has at most 8 bytes and may be empty, as it is for secure-boot variables.
    ValueError for a component that does not fit into the header.
    """
    prefix = _bytes(component)
    if len(prefix) > COMPONENT_SIZE or not 0 <= os <= 0xFF:
        raise ValueError("a component has at most 8 bytes, and an operating system's flag is one byte")
    header: bytes = LABEL_HEADER.build({"prefix": prefix.ljust(COMPONENT_SIZE, b"\0"), "os": os})
    return header + _bytes(name)


def parse_label(label: bytes) -> OsLabel | None:
    """Take a label apart; None for one without a header of exactly the agreed form."""
    try:
        fields = LABEL_HEADER.parse(label)
    except ConstructError:
        return None
    return OsLabel(fields.prefix.rstrip(b"\0"), fields.os, label[LABEL_HEADER_SIZE:])


def describe_label(label: bytes) -> str:
    """Return a label for people: `component:name (Linux)`, plain text, or `hex:...`.

    A name in UTF-16, such as that of a secure-boot variable, is `utf16:` and its text.  So different labels
    have different texts, and `swpks lpar` takes each part of a text as it stands.
    """
    parts = parse_label(label)
    if parts is None:
        return _text(label)
    name = parts.text
    shown = _text(parts.name) if name is None else f"{_UTF16}{name}"
    return f"{_text(parts.component)}:{shown} ({OS_NAMES.get(parts.os, f'OS 0x{parts.os:02X}')})"


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def _text(data: bytes) -> str:
    """Return bytes as text where they are printable ASCII, else in hexadecimal."""
    text = data.decode("ascii", "replace")
    plain = text.isascii() and text.isprintable() and not text.startswith(("hex:", _UTF16))
    return text if plain else f"hex:{data.hex()}"
