"""What an operator may choose, with the defaults and the ranges.

The same values come from the command line and from a TOML file (`hcall_server.service.config`).  Each
class refuses what makes no sense with a ValueError; who reads the input says where it stood.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from hcall_abi.console import ATTRIBUTES, SECURE_BOOT_MODES
from hcall_abi.errors import OperatorError
from hcall_abi.faults import parse_fault
from hcall_abi.levels import LEVELS
from hcall_server.machine.limits import Limits


@dataclass(frozen=True)
class PartitionSettings:
    """A partition that shall exist: made at first start, remembered, grown when more is asked.

    None leaves what is remembered.  At first: no keystore, started with the server, secure boot
    off, all attributes of signed updates 0.  `secure_boot` is the mode from the next IPL on, so that
    of this start too.  The latch for updates without verification is armed with a new partition
    only: what was used up is armed again by the console, never by a restart.  `faults` is the fault
    plan of this start (spec/faults.md), each as "HCALL=STATUS[,nth=N][,times=K|,seconds=S]".
    """

    name: str
    keystore_kbytes: int | None = None
    auto_start: bool | None = None
    secure_boot: str | None = None
    keystore_signed_updates: int | None = None
    keystore_signed_updates_without_verification: int | None = None
    linux_dynamic_key_secure_boot: int | None = None
    faults: tuple[str, ...] = ()

    @property
    def attributes(self) -> dict[str, int]:
        """The attributes that are asked for, by the console's names and in its numbers."""
        mode = None if self.secure_boot is None else SECURE_BOOT_MODES.index(self.secure_boot)
        return {
            name: value
            for name in ATTRIBUTES
            if (value := mode if name == "secure_boot" else getattr(self, name)) is not None
        }

    def __post_init__(self) -> None:
        if self.secure_boot is not None and self.secure_boot not in SECURE_BOOT_MODES:
            raise ValueError(f"partition {self.name}: secure_boot is one of {', '.join(SECURE_BOOT_MODES)}")
        for name, value in self.attributes.items():
            if value not in ATTRIBUTES[name]:
                raise ValueError(f"partition {self.name}: {name} is 0 to {ATTRIBUTES[name][-1]}")
        for text in self.faults:
            try:
                parse_fault(text)
            except OperatorError as error:
                raise ValueError(f"partition {self.name}: {error.message}: {error.rule}") from None


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
    attributes = dict(each.split("=", 1) for each in rest if "=" in each)
    numbers = [value for name, value in attributes.items() if name != "secure_boot"]
    known = attributes.keys() <= ATTRIBUTES.keys() - {"keystore_kbytes"} and len(attributes) == len(rest)
    if not known or not all(re.fullmatch(r"[0-9]{1,5}", number) for number in (size or "0", *numbers)):
        raise ValueError(f"partition {text!r}: a partition is NAME:KBYTES,ATTRIBUTE=VALUE,...")
    wishes: dict[str, Any] = {
        name: value if name == "secure_boot" else int(value) for name, value in attributes.items()
    }
    return PartitionSettings(name, int(size) if size else None, **wishes)
