"""Labels as operating systems write them, and as people read them.

To the keystore a label is plain bytes.  Operating systems agree to begin theirs with a 16-byte
header that says who uses the object (spec/structures.md#label); firmware writes none.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from construct import ConstructError

from hcall_abi.mistakes import check_bytes, check_number, check_text_or_bytes, of_caller
from hcall_abi.structures import LABEL_HEADER, LABEL_HEADER_SIZE, OS_COMMON, OS_LINUX
from hcall_abi.variables import wide

__tracebackhide__ = of_caller
COMPONENT_SIZE = 8
"""Most bytes that a component's name may have."""
SB_VERSION = b"SB_VERSION"
"""Label of firmware's object that switches dynamic secure-boot keys on; it has no header."""
OS_NAMES = {OS_LINUX: "Linux", OS_COMMON: "common"}
"""Names of the operating systems by their flag in the header."""


_HEX, _UTF16 = "hex:", "utf16:"
_KINDS = frozenset({"hex", "utf16"})
_SHOWN = re.compile(
    r"(?P<component>hex:[0-9a-f]*|(?!hex:|utf16:)[^:]*):(?P<name>.*)"
    r" \((?P<os>Linux|common|OS 0x[0-9A-F]{2})\)",
    re.DOTALL,
)
"""The text of a label with a header, as `describe_label` returns it."""


class OsLabel(NamedTuple):
    """A label with its header taken apart; `component` comes without its padding."""

    component: bytes
    os: int
    name: bytes

    @property
    def text(self) -> str | None:
        """The name as text, None if it is not readable.

        A readable name is printable ASCII in UTF-16, little-endian.
        """
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
    check_text_or_bytes("the component of a label", component)
    check_text_or_bytes("the name of a label", name)
    check_number("the operating system of a label", os)
    prefix = _bytes(component)
    if len(prefix) > COMPONENT_SIZE or not 0 <= os <= 0xFF:
        raise ValueError("a component has at most 8 bytes, and an operating system's flag is one byte")
    header: bytes = LABEL_HEADER.build({"prefix": prefix.ljust(COMPONENT_SIZE, b"\0"), "os": os})
    return header + _bytes(name)


def parse_label(label: bytes) -> OsLabel | None:
    """Return the parts of a label; None for a label without a header of exactly the agreed form."""
    check_bytes("a label", label)
    try:
        fields = LABEL_HEADER.parse(label)
    except ConstructError:
        return None
    return OsLabel(fields.prefix.rstrip(b"\0"), fields.os, label[LABEL_HEADER_SIZE:])


def describe_label(label: bytes) -> str:
    """Return a label for people: `component:name (Linux)`, plain text, or `hex:...`.

    A name in UTF-16, such as that of a secure-boot variable, is `utf16:` and its text.  Different labels
    have different texts: `label_of` returns the label of a text.
    """
    parts = parse_label(label)
    # A plain label that reads like a header's text is shown in hexadecimal: each text has one label.
    if parts is None:
        text = _text(label)
        return f"{_HEX}{label.hex()}" if _SHOWN.fullmatch(text) else text
    name = parts.text
    shown = _text(parts.name) if name is None else f"{_UTF16}{name}"
    return f"{_component(parts.component)}:{shown} ({OS_NAMES.get(parts.os, f'OS 0x{parts.os:02X}')})"


def _component(component: bytes) -> str:
    """Return a component as text.

    The text is hexadecimal if the component is not printable, or if its text would be ambiguous.
    """
    text = _text(component)
    # The text is `component:name`. If the component had a colon, or were the word `hex` or `utf16`, a reader
    # would split it at the wrong colon.
    unclear = text in _KINDS or (":" in text and not text.startswith(_HEX))
    return f"{_HEX}{component.hex()}" if unclear else text


def label_of(text: str) -> bytes:
    """Return the label for a text that `describe_label` returns; ValueError for a wrong text.

    A text without a header's form is a plain label: `utf16:` and a name, `hex:` and bytes, or its own bytes.
    """
    found = _SHOWN.fullmatch(text)
    if found is None:
        return plain_bytes(text)
    flags = {shown: flag for flag, shown in OS_NAMES.items()}
    shown = found["os"]
    flag = flags[shown] if shown in flags else int(shown.removeprefix("OS "), 16)
    return os_label(plain_bytes(found["component"]), plain_bytes(found["name"]), flag)


def plain_bytes(text: str) -> bytes:
    """Return the bytes of a part of a label; ValueError for bad hexadecimal."""
    if text.startswith(_UTF16):
        return wide(text.removeprefix(_UTF16))
    if not text.startswith(_HEX):
        # Bytes of a command line that are no UTF-8 come as surrogates, and go back to the same bytes.
        return text.encode(errors="surrogateescape")
    try:
        return bytes.fromhex(text[len(_HEX) :])
    except ValueError:
        raise ValueError(f"{text!r} is not in hexadecimal") from None


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def _text(data: bytes) -> str:
    """Return bytes as text where they are printable ASCII, else in hexadecimal."""
    text = data.decode("ascii", "replace")
    plain = text.isascii() and text.isprintable() and not text.startswith((_HEX, _UTF16))
    return text if plain else f"{_HEX}{data.hex()}"
