"""The settings of an operator, with defaults and ranges.

The same values come from the command line and from a TOML file (`hcall_server.service.config`).  Each
class refuses a value out of range with an OperatorError: the rule, the field and the value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hcall_abi.addresses import is_host, is_loopback
from hcall_abi.attributes import attribute_number, parse_attributes
from hcall_abi.bounds import (
    MAX_CONFIRM_WAIT_MS,
    MAX_COPY_INTERVAL_S,
    MAX_FLUSH_DELAY_MS,
    MAX_NVRAM_LEASE_S,
    MAX_TOTAL_KBYTES,
    MAX_TRACE_MB,
    MIN_COPY_INTERVAL_S,
    MIN_NVRAM_LEASE_S,
    MIN_TRACE_MB,
)
from hcall_abi.console import is_system_name
from hcall_abi.errors import OperatorError
from hcall_abi.faults import BusyFault, checked_plan, parse_fault
from hcall_abi.levels import LEVELS
from hcall_abi.rules import cluster
from hcall_abi.rules import service as rules
from hcall_server.machine.limits import Limits
from hcall_server.platform.demands import check
from hcall_server.platform.names import FORM, NewName

if TYPE_CHECKING:
    from hcall_server.nvram.etcd.place import EtcdPlace

FIRST_NAME = "system"
"""The name of a new system that has no folder, or one without a usable name."""
MAX_TPMS = 2
UNIX = "unix"
"""The setting `mobility` of a system that expects partitions at a socket in its state folder."""

_RANGES = {
    "flush_delay_ms": (0, MAX_FLUSH_DELAY_MS, rules.FLUSH_DELAY_RANGE),
    "confirm_wait_ms": (0, MAX_CONFIRM_WAIT_MS, rules.CONFIRM_WAIT_RANGE),
    "nvram_lease_s": (MIN_NVRAM_LEASE_S, MAX_NVRAM_LEASE_S, cluster.NVRAM_LEASE),
    "copy_interval_s": (MIN_COPY_INTERVAL_S, MAX_COPY_INTERVAL_S, rules.COPY_INTERVAL_RANGE),
    "trace_limit_mb": (MIN_TRACE_MB, MAX_TRACE_MB, rules.TRACE_LIMIT),
}
"""The range of each number in the settings, and the rule that a value out of range breaks."""


@dataclass(frozen=True)
class PartitionSettings:
    """A partition that the operator wants: made at the first start, stored, and changed by later settings.

        PartitionSettings.of("lpar1", 64, secure_boot="audit", keystore_signed_updates=1)

    `attributes` are the attributes to set, by the console's names and in its numbers.  All other attributes
    keep their stored values.  A new partition has the first values of spec/control.md#attributes, and starts
    with the server.  A secure-boot mode is in force in this start already.

    The latch for updates without verification is armed only when a partition is made.  A restart does not arm
    it again.  The console can.  `faults` is the fault plan of this start (spec/faults.md).
    """

    name: str
    attributes: Mapping[str, int] = field(default_factory=dict)
    auto_start: bool | None = None
    faults: tuple[BusyFault, ...] = ()

    @classmethod
    def of(
        cls,
        name: str,
        keystore_kbytes: int | str | None = None,
        *,
        auto_start: bool | None = None,
        faults: Iterable[str] = (),
        **attributes: int | str,
    ) -> PartitionSettings:
        """Return the settings that an operator has written; OperatorError that names the partition.

        A value is an input of `AttributeRow.parse`: a number, or a word if the attribute has words.
        A fault is "HCALL=STATUS[,nth=N][,times=K|,seconds=S]".  Without a size, the stored size stays.
        """
        if keystore_kbytes is not None:
            attributes["keystore_kbytes"] = keystore_kbytes
        with located(f"partition {name}"):
            numbers = {each: attribute_number(each, value) for each, value in attributes.items()}
            return cls(name, numbers, auto_start, checked_plan(map(_fault, faults)))

    def overridden(self, other: PartitionSettings) -> PartitionSettings:
        """Return these settings, overridden by further settings of the same partition."""
        return PartitionSettings(
            self.name,
            {**self.attributes, **other.attributes},
            self.auto_start if other.auto_start is None else other.auto_start,
            other.faults or self.faults,
        )


@dataclass(frozen=True)
class Settings:
    """A whole server.  None means the stored value, or the default at the first start.

    `name` is the name of the managed system.  If `name` is None, a new system gets the name `first_name`.
    `tpm` has one or two words for the TPMs ("embedded", "swtpm:PATH", "tcti:STRING").  If `tpm` is empty, the
    system has the TPMs of its last start.
    `strict_wrapping`: with strict memory, wrap buffers start at a page.  `strict_updates`: refuse signed
    updates that real firmware may refuse.
    `system_total_kbytes`: PKS total of the system in KiB.  `flush_delay_ms`: how long a change may
    wait for others before it is written (milliseconds).  `confirm_wait_ms`: how long a CONFIRM waits
    for its flush (milliseconds; 0: it is answered at once).  `copy_interval_s`: how often a connected
    console is asked for copies of changed stores (seconds).  `listen`: TCP listeners, "tcp:HOST:PORT".
    `control`: "tcp:HOST:PORT" of a second listener of the control channel, by mutual TLS with the files
    `tls_cert`, `tls_key` and `tls_ca`.
    `metrics`: "tcp:HOST:PORT" of a listener for the metrics alone, on loopback; `insecure_listen`: at any
    address.
    `nvram`: "etcd:ENDPOINT[,ENDPOINT...]" for NVRAM on etcd, below the keys `nvram_prefix`, with the PEM
    files `nvram_tls_ca`, `nvram_tls_cert` and `nvram_tls_key`; None: NVRAM is in the state folder.
    `nvram_lease_s`: another server may own it after so many seconds of silence (None: 6).
    `mobility`: where other systems find this one, "unix" for a socket in the state, or "tcp:HOST:PORT".
    `without_console`: partitions that may be restarted remotely start without the console's agreement.
    `debuggable`: permit core dumps and debuggers of the server process.
    `log_calls`: log each h-call with its registers and its answer, without secrets.
    `trace`: a new file for all frames of the data channels; `trace_secrets`: nothing is blanked there.
    `trace_limit_mb`: largest size of a file of frames, in MB of a million bytes; then that trace ends.
    """

    name: str | None = None
    first_name: str = FIRST_NAME
    tpm: tuple[str, ...] = ()
    firmware: str | None = None
    system_total_kbytes: int | None = None
    strict_memory: bool = True
    strict_wrapping: bool = True
    strict_updates: bool = False
    flush_delay_ms: float = 50.0
    confirm_wait_ms: float = 0.0
    copy_interval_s: float = 60.0
    listen: tuple[str, ...] = ()
    control: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_ca: str | None = None
    metrics: str | None = None
    insecure_listen: bool = False
    nvram: str | None = None
    nvram_prefix: str | None = None
    nvram_lease_s: int | None = None
    nvram_tls_ca: str | None = None
    nvram_tls_cert: str | None = None
    nvram_tls_key: str | None = None
    mobility: str = UNIX
    without_console: bool = False
    debuggable: bool = False
    log_calls: bool = False
    trace: str | None = None
    trace_limit_mb: float = 64.0
    trace_secrets: bool = False
    limits: Limits = field(default_factory=Limits)
    partition: tuple[PartitionSettings, ...] = ()

    def __post_init__(self) -> None:
        if self.name is not None and not is_system_name(self.name):
            raise OperatorError(rules.SYSTEM_NAME_FORM, f"{self.name!r} is no name for a managed system")
        _check_tpms(self.tpm)
        if self.firmware is not None and self.firmware not in LEVELS:
            message = f"firmware = {self.firmware!r}; the levels are {', '.join(LEVELS)}"
            raise OperatorError(rules.FIRMWARE_KNOWN, message)
        for name, (least, most, rule) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise OperatorError(rule, f"{name} = {value}")
        total = self.system_total_kbytes
        if total is not None and not 1 <= total <= MAX_TOTAL_KBYTES:
            raise OperatorError(rules.TOTAL_RANGE, f"system_total_kbytes = {total}")
        _check_addresses(self)
        _check_names([each.name for each in self.partition])

    def control_over_tcp(self) -> tuple[str, int, str, str, str] | None:
        """Return host, port, certificate, key and CA file of the control channel over TCP; None without it.

        OperatorError if one of them is missing.  The command line may give some of them, and a file the
        others.
        """
        control, cert, key, ca = fields = self.control, self.tls_cert, self.tls_key, self.tls_ca
        if control is not None and cert is not None and key is not None and ca is not None:
            return (*parse_listen(control, "control"), cert, key, ca)
        if any(each is not None for each in fields):
            missing = [name for name, value in zip(_OVER_TCP, fields, strict=True) if value is None]
            raise OperatorError(rules.TLS_COMPLETE, f"there is no {', '.join(missing)}")
        return None

    def nvram_on_etcd(self, *, standby: bool = False) -> EtcdPlace | None:
        """Return the place of NVRAM on etcd; None if it is in the state folder.

        OperatorError if a field has a wrong form, or if a `standby` has NVRAM in the folder.
        """
        if self.nvram is not None:
            from hcall_server.nvram.etcd.place import parse_place

            ca, cert, key = self.nvram_tls_ca, self.nvram_tls_cert, self.nvram_tls_key
            return parse_place(
                self.nvram, self.nvram_prefix, ca=ca, cert=cert, key=key, lease=self.nvram_lease_s
            )
        if standby:
            message = "a standby takes NVRAM over, and NVRAM in a folder has no other server: name --nvram"
            raise OperatorError(cluster.STANDBY_NVRAM, message)
        for name in ("nvram_prefix", "nvram_lease_s", "nvram_tls_ca", "nvram_tls_cert", "nvram_tls_key"):
            if getattr(self, name) is not None:
                raise OperatorError(cluster.NVRAM_FORM, f"{name} without nvram")
        return None

    def metrics_over_tcp(self) -> tuple[str, int] | None:
        """Return host and port of the metrics listener; None without it.

        OperatorError for a host beyond loopback without `insecure_listen`.  The check is here, because the
        host may come from the file and `insecure_listen` from the command line.
        """
        if self.metrics is None:
            return None
        host, port = parse_listen(self.metrics, "metrics")
        if not self.insecure_listen and not is_loopback(host):
            message = f"metrics {self.metrics!r}: every host that reaches {host} could read them"
            advice = "take 127.0.0.1, or permit it by --insecure-listen"
            raise OperatorError(rules.METRICS_LOOPBACK, f"{message}; {advice}")
        return host, port


def _check_tpms(words: tuple[str, ...]) -> None:
    if len(words) > MAX_TPMS:
        raise OperatorError(rules.TPM_COUNT, f"{len(words)} TPMs are given")
    if not words:
        return
    # The start parses the words again.  This check refuses a wrong word before the folder of a new system
    # is made.  The import is here because few starts name a TPM.
    from hcall_server.components.tpm.kinds import EMBEDDED, TpmKind

    # Each embedded TPM has a seed of its own, so two of them are two parts.  An external TPM that is named
    # twice is one part.  It would hold no second copy.
    external = [found for found in map(TpmKind.parse, words) if found != EMBEDDED]
    if len(set(external)) < len(external):
        raise OperatorError(rules.TPM_COUNT, f"{external[0]} is given twice")


def _check_names(names: list[str]) -> None:
    # The system checks the names again.  This check refuses a wrong name before the folder of a new system
    # is made.
    for name in names:
        check([FORM], NewName(name, taken=False, unreadable=False))
    if len(set(names)) != len(names):
        raise OperatorError(rules.PARTITION_TWICE, f"the partitions are {', '.join(names)}")


def _check_addresses(settings: Settings) -> None:
    for address in settings.listen:
        parse_listen(address)
    if settings.control is not None:
        parse_listen(settings.control, "control")
    if settings.metrics is not None:
        parse_listen(settings.metrics, "metrics")
    if settings.mobility != UNIX:
        parse_listen(settings.mobility, "mobility")


_OVER_TCP = ("control", "tls_cert", "tls_key", "tls_ca")


def parse_listen(text: str, setting: str = "listen") -> tuple[str, int]:
    """Return host and port of "tcp:HOST:PORT" ("tcp:[::1]:0" for IPv6); OperatorError for any other form.

    `setting` is the field that has this text, for the message.
    """
    match = re.fullmatch(r"tcp:(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]+)):([0-9]{1,5})", text)
    if match is None or int(match[3]) > 0xFFFF:
        raise OperatorError(rules.LISTEN_FORM, f"{setting}: {text!r} is no tcp:HOST:PORT")
    host = match[1] or match[2]
    if not is_host(host):
        raise OperatorError(rules.LISTEN_FORM, f"{setting} {text!r}: {host!r} is no name of a host")
    return host, int(match[3])


def parse_partition(text: str) -> PartitionSettings:
    """Return the settings in "NAME[:KBYTES][,ATTRIBUTE=VALUE...]"; OperatorError for any other form.

    Attributes that are not given keep their stored values.
    """
    start, *rest = text.split(",")
    name, _, size = start.partition(":")
    with located(f"partition {text!r}"):
        if "=" in name:  # the rule of names would not show the form for "lpar1=64"
            raise OperatorError(rules.PARTITION_FORM, "the form is NAME:KBYTES, with a colon")
        attributes = parse_attributes(rest)
        if "keystore_kbytes" in attributes:
            raise OperatorError(rules.PARTITION_FORM, "the size stands behind the name")
        if size:
            attributes["keystore_kbytes"] = attribute_number("keystore_kbytes", size)
    return PartitionSettings(name, attributes)


@contextmanager
def located(place: str) -> Iterator[None]:
    """Put a place in front of the message of an OperatorError from the block.  The error keeps its rule."""
    try:
        yield
    except OperatorError as error:
        raise OperatorError(error.rule, f"{place}: {error.message}") from None


def _fault(text: str) -> BusyFault:
    with located(f"fault {text!r}"):
        return parse_fault(text)


def of_size(error: OperatorError, name: str, stored: int | None) -> OperatorError:
    """Return an error about a partition of the settings, with the remedy if it is about the size.

    `stored` is the size of its keystore in KiB, None for a new partition.
    """
    from hcall_abi.remedies import with_remedy  # most starts are not refused

    if not error.rule.id.startswith("size.") or error.advised:
        return error
    message = with_remedy(error.message, error.rule.id)
    if stored is not None:
        message = f"{error.message}; `--partition {name}` without a size keeps its {stored} KiB"
    return OperatorError(error.rule, message, advised=True)
