"""What an operator may choose, with the defaults and the ranges.

The same values come from the command line and from a TOML file (`hcall_server.service.config`).  Each
class refuses what makes no sense with a ValueError; who reads the input says where it stood.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hcall_abi.console import ATTRIBUTES
from hcall_abi.errors import OperatorError
from hcall_abi.faults import parse_fault
from hcall_abi.levels import LEVELS
from hcall_server.machine.limits import Limits


@dataclass(frozen=True, init=False)
class PartitionSettings:
    """A partition that shall exist: made at first start, remembered, grown when more is asked.

        PartitionSettings("lpar1", 64, secure_boot="audit", keystore_signed_updates=1)

    `attributes` are those that are asked for, by the console's names and in its numbers; they are given
    as a number, or as a word where the attribute has words.  All others stay as they are remembered.
    At first an attribute is as spec/control.md#attributes says, and the partition starts with the
    server.  A secure-boot mode is that of this start too.  The latch for updates without verification is
    armed with a new partition only: a restart never arms it again, the console can.  `faults` is the fault
    plan of this start (spec/faults.md), each as "HCALL=STATUS[,nth=N][,times=K|,seconds=S]".
    """

    name: str
    attributes: Mapping[str, int]
    auto_start: bool | None
    faults: tuple[str, ...]

    def __init__(
        self,
        name: str,
        keystore_kbytes: int | str | None = None,
        *,
        auto_start: bool | None = None,
        faults: tuple[str, ...] = (),
        **attributes: int | str | None,
    ) -> None:
        given = {"keystore_kbytes": keystore_kbytes, **attributes}
        numbers = {each: _number(name, each, value) for each, value in given.items() if value is not None}
        vars(self).update(name=name, attributes=numbers, auto_start=auto_start, faults=faults)
        for text in faults:
            try:
                parse_fault(text)
            except OperatorError as error:
                raise ValueError(f"partition {name}: {error.message}: {error.rule.sentence}") from None

    def overridden(self, other: PartitionSettings) -> PartitionSettings:
        """Return these settings with whatever other settings of the same partition say instead."""
        numbers = {**self.attributes, **other.attributes}
        return PartitionSettings(
            self.name,
            auto_start=self.auto_start if other.auto_start is None else other.auto_start,
            faults=other.faults or self.faults,
            **{name: ATTRIBUTES[name].shown(number) for name, number in numbers.items()},
        )


def _number(partition: str, name: str, given: int | str) -> int:
    """Return the number of an attribute; ValueError that names the partition and what is possible."""
    row = ATTRIBUTES.get(name)
    if row is None:
        raise ValueError(f"partition {partition}: no attribute {name}")
    if row.words and given not in row.words:
        raise ValueError(f"partition {partition}: {name} is one of {', '.join(row.words)}")
    try:
        return row.parse(given)
    except ValueError as error:
        raise ValueError(f"partition {partition}: {name} {error}") from None


@dataclass(frozen=True)
class Settings:
    """A whole server.  None means: as remembered, or the default at first start.

    `strict_wrapping`: with strict memory, wrap buffers start at a page.
    `system_total_kbytes`: PKS total of the system in KiB.  `flush_delay_ms`: how long a change may
    wait for others before it is written (milliseconds).  `listen`: TCP listeners, "tcp:HOST:PORT".
    """

    firmware: str | None = None
    system_total_kbytes: int | None = None
    strict_memory: bool = True
    strict_wrapping: bool = True
    flush_delay_ms: float = 50.0
    listen: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    partition: tuple[PartitionSettings, ...] = ()

    def __post_init__(self) -> None:
        if self.firmware is not None and self.firmware not in LEVELS:
            raise ValueError(f"firmware {self.firmware!r}: known levels are {', '.join(LEVELS)}")
        if not 0 <= self.flush_delay_ms <= 60_000:
            raise ValueError(f"flush_delay_ms = {self.flush_delay_ms}: a delay is 0 to 60000 ms")
        if self.system_total_kbytes is not None and not 1 <= self.system_total_kbytes <= 1 << 20:
            raise ValueError(f"system_total_kbytes = {self.system_total_kbytes} is no size")
        for address in self.listen:
            parse_listen(address)
        names = [each.name for each in self.partition]
        if len(set(names)) != len(names):
            raise ValueError(f"a partition is named twice: {', '.join(names)}")


def parse_listen(text: str) -> tuple[str, int]:
    """Return host and port of "tcp:HOST:PORT" ("tcp:[::1]:0" for IPv6); ValueError if it is not so."""
    match = re.fullmatch(r"tcp:(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]+)):([0-9]{1,5})", text)
    if match is None or int(match[3]) > 0xFFFF:
        raise ValueError(f"listen {text!r}: a listener is tcp:HOST:PORT, port 0 for a free one")
    return match[1] or match[2], int(match[3])


def parse_partition(text: str) -> PartitionSettings:
    """Return the settings in "NAME[:KBYTES][,ATTRIBUTE=VALUE...]"; ValueError if not so.

    What is not given is as it was.
    """
    start, *rest = text.split(",")
    name, _, size = start.partition(":")
    attributes: dict[str, Any] = dict(each.split("=", 1) for each in rest if "=" in each)
    if len(attributes) != len(rest) or not attributes.keys() <= ATTRIBUTES.keys() - {"keystore_kbytes"}:
        raise ValueError(f"partition {text!r}: a partition is NAME:KBYTES,ATTRIBUTE=VALUE,...")
    return PartitionSettings(name, size or None, **attributes)
