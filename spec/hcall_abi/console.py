"""The console's vocabulary: attributes, secure-boot modes, names, message numbers (spec/control.md).

The names and numbers are those of the real console where it has them. Each attribute of a partition is one
field of `ConsoleAttributes`, and the row of the field has its description and numbers. All other forms of
an attribute are made from its row: the setting of a server, the fields in bodies and views, the OpenAPI
schemas, the switch in the partition record, `swpks hmc set` and the table of the page.

The verbs are in `hcall_abi.control`, the grammar of fault plans in `hcall_abi.faults`.  The rows have all
values of an attribute.  The system decides which of them a partition may have at a given moment.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_type_hints

from hcall_abi.bounds import SYSTEM_NAME_SIZE
from hcall_abi.calls import Opcode
from hcall_abi.consumers import SecureBoot

SecureBootMode = Literal["off", "audit", "enforce"]
"""A secure-boot mode by name; `ibm,secure-boot` has 0, 1 and 2 for it."""

SECURE_BOOT_MODES: tuple[SecureBootMode, ...] = get_args(SecureBootMode)
"""Names of the secure-boot modes, in the order of their numbers."""

LARGEST_PARTITION_ID = 0xFFFF
"""Partition ids are 1 to this number; 0 stands for a listener's only partition."""

IN_USE_CODE = "HSCL0DC8"
"""The console's message number for switching off something that a keystore in use needs."""

SWITCH = range(2)
"""The numbers of an attribute that is off (0) or on (1)."""

_LATER = SYSTEM_NAME_SIZE - 1
"""Most characters of a name after its first one."""
# A name has no blank and no slash. It becomes a file name, and is printed in lines without quotes.
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{_LATER}}}")
_SYSTEM_NAME = re.compile(rf"[A-Za-z0-9]([A-Za-z0-9 ._-]{{0,{_LATER - 1}}}[A-Za-z0-9._-])?")
RESERVED_NAMES = ("control", "mobility", "tcp")
"""Names that no partition may have: those of the other sockets, and of the listener on TCP."""
# A number has at most nine digits, because `int` becomes very slow for many digits.
_NUMBER = re.compile(r"[0-9]{1,9}", re.ASCII)


class AttributeRow(NamedTuple):
    """The row of one attribute.

    `numbers` are all allowed numbers, and `words` their names, from 0 on.  `sealed` is the attribute's
    place in the partition record (spec/sealed.md#partition-record): the name of a field, or a bit of
    `attributes`. The bit is set while the attribute differs from its `default`.

    If `needs` is an h-call, a firmware level without this call does not have the attribute.  If `needs` is
    another attribute, this one can be on only while the other is on.

    `of_updates` marks attributes of signed updates.  They change only while the partition is powered off.
    If the keystore is switched off, they are switched off too.  `while_off` marks other attributes that
    change only while the partition is powered off.
    """

    description: str
    numbers: range
    # This place is a part of a stored format: the number of a bit never changes its meaning.
    sealed: str | int
    words: tuple[str, ...] = ()
    default: int = 0
    needs: Opcode | str | None = None
    of_updates: bool = False
    while_off: bool = False
    # A record has room for more numbers than a partition may have.  Users need the latter.
    possible: str = ""

    @property
    def span(self) -> str:
        """The range of the attribute's numbers as text."""
        return self.possible or f"{self.numbers[0]} to {self.numbers[-1]}"

    @property
    def values(self) -> str:
        """The allowed values as text: numbers, and words if it has them."""
        return f"{self.span}, or {', '.join(self.words)}" if self.words else self.span

    @property
    def legend(self) -> str:
        """The attribute's numbers with their words as text, "" if it has no words."""
        return ", ".join(f"{number} {word}" for number, word in enumerate(self.words))

    def shown(self, number: int) -> int | str:
        """Return a number as views and settings show it: as a word if it has words."""
        return self.words[number] if self.words else number

    def number_of(self, shown: int | str) -> int:
        """Return the number of a value that `shown` has returned."""
        return self.words.index(shown) if isinstance(shown, str) else shown

    def parse(self, given: int | str) -> int:
        """Return the number for a word, digits or a number; ValueError for any other value."""
        if given in self.words:
            return self.words.index(str(given))
        number = int(given) if _NUMBER.fullmatch(str(given)) else -1
        if number not in self.numbers:
            raise ValueError(f"is {self.values}, not {given!r}")
        return number


@dataclass(frozen=True, kw_only=True)
class ConsoleAttributes:
    """Every attribute of a partition by the console's name, in the order of the page; immutable.

    To add an attribute, add a field here and nothing else: see ARCHITECTURE.md#how-to-add-an-attribute.
    """

    keystore_kbytes: Annotated[
        int,
        AttributeRow(
            "size of the keystore in KiB; 0 switches it off, and the attributes of signed updates with it",
            range(0x10000),
            "kbytes",
            possible="0, or 4 to 64 or 128 as the firmware level allows",
        ),
    ]
    keystore_signed_updates: Annotated[
        int,
        AttributeRow(
            "1: SIGNED_UPDATE is answered; 0: H_FUNCTION, and GET_CONFIG shows no algorithms for it",
            SWITCH,
            1,
            needs=Opcode.SIGNED_UPDATE,
            of_updates=True,
        ),
    ]
    keystore_signed_updates_without_verification: Annotated[
        int,
        # This attribute is a latch and not a switch. The first PK has to be unsigned, because no key exists
        # that could sign it. A second unsigned PK would take over the system.
        AttributeRow(
            "a latch: while it is 1, one update of Linux's PK needs no signature; "
            "the first that succeeds, a deletion too, sets it back to 0",
            SWITCH,
            2,
            needs="keystore_signed_updates",
            of_updates=True,
        ),
    ]
    linux_dynamic_key_secure_boot: Annotated[
        int,
        AttributeRow(
            "1: from the next IPL on the keystore has SB_VERSION, "
            "and the guest's secure boot takes its keys from there",
            SWITCH,
            4,
            needs="keystore_signed_updates",
            of_updates=True,
        ),
    ]
    secure_boot: Annotated[
        SecureBootMode,
        AttributeRow("the mode that the next IPL takes", range(3), "secure_boot", words=SECURE_BOOT_MODES),
    ]
    simplified_remote_restart_capable: Annotated[
        int,
        AttributeRow(
            "1: the console may restart the partition on another system while its own one is down; "
            "so it asks its console before it starts with its system",
            SWITCH,
            8,
            # The record stores only differences from the default. So a partition in an older record is
            # capable.
            default=1,
            while_off=True,
        ),
    ]

    @property
    def numbers(self) -> dict[str, int]:
        """The console's number of each attribute, by name."""
        return {name: row.number_of(getattr(self, name)) for name, row in ATTRIBUTES.items()}

    @property
    def of_updates(self) -> tuple[int, ...]:
        """The numbers of the attributes of signed updates."""
        return tuple(getattr(self, name) for name in OF_UPDATES)

    @property
    def while_off(self) -> tuple[int, ...]:
        """The numbers of the other attributes that change only while the partition is powered off."""
        return tuple(getattr(self, name) for name in WHILE_OFF)

    @property
    def next_mode(self) -> SecureBoot:
        """The secure-boot mode that the next IPL takes."""
        return SecureBoot(SECURE_BOOT_MODES.index(self.secure_boot))

    def with_numbers(self, numbers: Mapping[str, int]) -> ConsoleAttributes:
        """Return these attributes with some changed; the numbers are in range."""
        shown: dict[str, Any] = {name: ATTRIBUTES[name].shown(number) for name, number in numbers.items()}
        return replace(self, **shown)


def _rows() -> Mapping[str, AttributeRow]:
    # The row is in the annotation of its field, so no field can be without a row.
    hints = get_type_hints(ConsoleAttributes, include_extras=True)
    return MappingProxyType({name: get_args(hint)[1] for name, hint in hints.items()})


ATTRIBUTES = _rows()
"""The row of every attribute by its name, in the order of the page."""

CALLS_OF = {name: row.needs for name, row in ATTRIBUTES.items() if isinstance(row.needs, Opcode)}
"""Attributes that need an h-call; while such an attribute is 0, the partition does not have the call."""

OF_UPDATES = tuple(name for name, row in ATTRIBUTES.items() if row.of_updates)
"""Names of the attributes of signed updates."""

WHILE_OFF = tuple(name for name, row in ATTRIBUTES.items() if row.while_off)
"""Names of other attributes that change only while the partition is powered off."""

_DEFAULTS: dict[str, Any] = {name: row.shown(row.default) for name, row in ATTRIBUTES.items()}
AT_FIRST = ConsoleAttributes(**_DEFAULTS)
"""The attributes of a new partition."""


def is_partition_name(name: str) -> bool:
    """Return whether a partition can have this name: it becomes the name of a socket and of a file."""
    return bool(_NAME.fullmatch(name)) and name not in RESERVED_NAMES


def is_system_name(name: str) -> bool:
    """Return whether a managed system can have this name.

    It has the characters of a partition's name, and blanks between them. So it needs no quotes in the
    console's output. It can't be taken for type, model and serial number, because these have an asterisk.
    """
    return bool(_SYSTEM_NAME.fullmatch(name))
