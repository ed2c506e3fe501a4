"""lssyscfg: partitions, their profiles, managed systems (spec/console.md#lists).

The attributes of partitions have the order of the real console, because scripts cut records by position.
Attributes that an emulated partition does not have are constants.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hcall_abi.console import ATTRIBUTES, SECURE_BOOT_MODES
from hcall_abi.control_views import PartitionView, SystemView
from hcall_abi.errors import SwpksError
from hcall_abi.requests import show_system
from hcall_server.console.grammar import NO_RESULTS, parse_columns, parse_filter
from hcall_server.console.lines.line import (
    COLUMNS,
    FILTER,
    SYSTEM,
    Getters,
    Line,
    LineCommand,
    constant,
    named_at,
    numbered,
)
from hcall_server.console.options import Option, Syntax

if TYPE_CHECKING:
    from hcall_server.console.store import LastView
    from hcall_server.console.systems import KnownSystem

PROFILE = "default_profile"
"""The name of the only profile that a partition shows."""
_CAPABLE = "simplified_remote_restart_capable"
_STATES = {"Operating": "Operating", "Recovery": "Recovery", "Reset pending": "Error"}


NOT_AVAILABLE = "Not Available"
"""The state of a partition whose system is away."""


@dataclass(frozen=True)
class ListedPartition:
    """A partition and its system: a list takes the attributes of a line from both.

    `state` is the state of the partition, and `restart` its remote restart status.  Both are words of the
    real console.
    """

    system: SystemView
    partition: PartitionView
    state: str
    restart: str = "Invalid"


def state_of(partition: PartitionView) -> str:
    """Return the state of a partition in the console's words."""
    if partition.refused:
        return "Error"
    return "Running" if partition.power == "running" else "Not Activated"


def _setting(name: str) -> Callable[[ListedPartition], str]:
    """Return the getter of an attribute of PKS or secure boot.

    The getter returns the number that the real console prints.
    """
    row = ATTRIBUTES[name]
    return lambda it: str(row.number_of(getattr(it.partition, name)))


def _when_running(text: str) -> Callable[[ListedPartition], str]:
    return lambda it: text if it.partition.power == "running" else ""


PARTITIONS: Getters[ListedPartition] = {
    "name": lambda it: it.partition.name,
    "lpar_id": lambda it: str(it.partition.number),
    "lpar_env": constant("aixlinux"),
    "state": lambda it: it.state,
    "resource_config": lambda it: "1" if it.partition.ipl_count else "0",
    "os_version": constant("Unknown"),
    "logical_serial_num": lambda it: f"{it.system.type_model_serial.partition('*')[2]}{it.partition.number}",
    "default_profile": constant(PROFILE),
    "curr_profile": _when_running(PROFILE),
    "work_group_id": constant("none"),
    "shared_proc_pool_util_auth": constant("0"),
    "allow_perf_collection": constant("0"),
    "power_ctrl_lpar_ids": constant("none"),
    "boot_mode": constant("norm"),
    "lpar_keylock": constant("norm"),
    "auto_start": lambda it: str(int(it.partition.auto_start)),
    "redundant_err_path_reporting": constant("0"),
    "rmc_state": constant("inactive"),
    "rmc_ipaddr": constant(""),
    "time_ref": constant("0"),
    "lpar_avail_priority": constant("127"),
    "desired_lpar_proc_compat_mode": constant("default"),
    "curr_lpar_proc_compat_mode": constant("default"),
    "suspend_capable": constant("0"),
    "remote_restart_capable": constant("0"),
    # This attribute has its position on the real console.  For the other attributes of PKS, no public source
    # shows one (spec/choices.md, C-96).
    _CAPABLE: _setting(_CAPABLE),
    "remote_restart_status": lambda it: it.restart,
    "sync_curr_profile": constant("0"),
    "affinity_group_id": constant("none"),
    "vtpm_enabled": constant("0"),
    "secure_boot": _setting("secure_boot"),
    "curr_secure_boot": lambda it: str(SECURE_BOOT_MODES.index(it.partition.curr_secure_boot)),
    # The positions of these attributes are unknown, so they come after all known ones.  A script that cuts
    # records by position still works.
    **{name: _setting(name) for name in ATTRIBUTES if name not in ("secure_boot", _CAPABLE)},
    "uuid": lambda it: it.partition.uuid,
}
"""The attributes of `lssyscfg -r lpar`."""

PROFILES: Getters[ListedPartition] = {
    "name": constant(PROFILE),
    "lpar_name": lambda it: it.partition.name,
    "lpar_id": lambda it: str(it.partition.number),
    "lpar_env": constant("aixlinux"),
    "all_resources": constant("0"),
    "min_mem": constant("1024"),
    "desired_mem": constant("4096"),
    "max_mem": constant("8192"),
    "proc_mode": constant("shared"),
    "min_procs": constant("1"),
    "desired_procs": constant("1"),
    "max_procs": constant("4"),
    "boot_mode": constant("norm"),
    "auto_start": lambda it: str(int(it.partition.auto_start)),
    "secure_boot": _setting("secure_boot"),
}
"""The attributes of `lssyscfg -r prof`: every partition has one profile."""


@dataclass(frozen=True)
class ListedSystem:
    """A managed system, with its last view."""

    known: KnownSystem
    connected: bool

    def shown(self, get: Callable[[LastView], object]) -> str | None:
        """Return a fact of the last view as text, None without a view.

        While the system is away, the fact is old.
        """
        return None if self.known.last is None else str(get(self.known.last))


def _system_state(it: ListedSystem) -> str:
    last = it.known.last
    return _STATES[last.state] if it.connected and last else "No Connection"


SYSTEMS: Getters[ListedSystem] = {
    "name": lambda it: it.known.name,
    "type_model": lambda it: it.known.type_model_serial.partition("*")[0],
    "serial_num": lambda it: it.known.serial,
    "ipaddr": constant(""),
    "state": _system_state,
    "detailed_state": constant("None"),
    "capabilities": constant("lpar_proc_compat_mode_capable,partition_keystore_capable"),
    "firmware_level": lambda it: it.shown(lambda view: view.firmware_level),
    "keystore_total_kbytes": lambda it: it.shown(lambda view: view.total_kbytes),
    "keystore_assigned_kbytes": lambda it: it.shown(lambda view: view.assigned_kbytes),
    "trouble": lambda it: it.known.reason,
}
"""The attributes of `lssyscfg -r sys`."""


def selected(system: SystemView, filters: dict[str, list[str]]) -> list[ListedPartition]:
    """Return the partitions that match every filter, in the order of their numbers.

    OperatorError (HSCL8012) for a partition id that does not exist.
    """
    found = sorted(system.partitions, key=lambda each: each.number)
    if "lpar_names" in filters:
        found = [each for each in found if each.name in filters["lpar_names"]]
    if "lpar_ids" in filters:
        numbers = set(filters["lpar_ids"])
        # This call raises the error for an id that does not exist (spec/choices.md, C-93).
        for missing in sorted(numbers - {str(each.number) for each in system.partitions}):
            numbered(system, missing)
        found = [each for each in found if str(each.number) in numbers]
    if not _matches(filters, "work_groups", "none"):
        return []
    if not _matches(filters, "profile_names", PROFILE):
        return []
    return [ListedPartition(system, each, state_of(each)) for each in found]


def _selected(line: Line, view: SystemView, filters: dict[str, list[str]]) -> list[ListedPartition]:
    """Return the partitions that match the filters.

    OperatorError for a partition name that this system does not have.  If another system has a partition of
    this name, the error names that system.
    """
    for name in sorted(set(filters.get("lpar_names", []))):
        named_at(line, view, name)
    return selected(view, filters)


def _matches(filters: dict[str, list[str]], name: str, value: str) -> bool:
    """Return whether a filter permits the partitions of a system.

    All partitions have the same `value` under this name.  So the filter permits all of them or none.  True if
    there is no filter of this name.
    """
    return value in filters.get(name, [value])


def filters_of(line: Line, *names: str) -> dict[str, list[str]]:
    """Parse the --filter of a line: return the values of each name, {} for a line without --filter.

    OperatorError for a name that is not one of `names`.
    """
    return parse_filter(text, names) if (text := line.options.value("--filter")) is not None else {}


async def filtered(line: Line, *names: str) -> list[ListedPartition]:
    """Return the partitions that match the line's --filter; only `names` may be in it."""
    filters = filters_of(line, *names)
    return _selected(line, await line.system(), filters)


async def _partitions(line: Line) -> None:
    # The filters are parsed before the request, so that a mistake is reported even while the system is away.
    filters = filters_of(line, "lpar_names", "lpar_ids", "work_groups")
    view, away = await line.last_view()
    # The status also depends on the register.  So a restart elsewhere is visible while the system is away.
    found = [_with_words(line, each) for each in _selected(line, view, filters)]
    await line.show(PARTITIONS, [replace(each, state=NOT_AVAILABLE) for each in found] if away else found)


def _with_words(line: Line, it: ListedPartition) -> ListedPartition:
    """Return a partition with the state and the restart status that the register adds."""
    migrations, known = line.console.migrations, line.known
    moving = migrations.moving(known, it.partition)
    return replace(
        it,
        state=f"Migrating - {it.state}" if moving else it.state,
        restart=migrations.remote_restart_status(known, it.partition),
    )


async def _profiles(line: Line) -> None:
    await line.show(PROFILES, await filtered(line, "lpar_names", "lpar_ids", "profile_names"))


async def _systems(line: Line) -> None:
    if "--filter" in line.options:
        # Systems have no attribute to filter by, so this refuses every name in a filter.
        parse_filter(line.options.value("--filter") or "", ())
    known = [line.known] if "-m" in line.options else line.console.systems
    await line.show(SYSTEMS, [await listed_system(each) for each in known])


async def listed_system(known: KnownSystem) -> ListedSystem:
    """Return a system with a new view, or with its last view if it can't be reached."""
    # The system is known to be away.  A request would only wait for its time-out, so none is made.
    if not known.connected:
        return ListedSystem(known, connected=False)
    try:
        await known.call(show_system())
    except SwpksError:
        return ListedSystem(known, connected=False)
    return ListedSystem(known, connected=True)


async def _system_profiles(line: Line) -> None:
    """Print an empty list: no system has a profile."""
    # A misspelt name is refused, although the list is always empty.
    parse_columns(line.options.words("-F"), ("name", "lpar_names", "profile_names"))
    await line.system()
    await line.say(NO_RESULTS)


_LISTS = {"lpar": _partitions, "prof": _profiles, "sys": _systems, "sysprof": _system_profiles}


def list_command(name: str, lists: Mapping[str, Callable[[Line], Awaitable[None]]]) -> LineCommand:
    """Return a command that prints lists: its option -r selects the list.

    `lists` has the function for each value of -r.
    """

    async def run(line: Line) -> int:
        await lists[line.options.needed("-r")](line)
        return 0

    options = Option("-r", choices=tuple(lists), required=True), SYSTEM, FILTER, *COLUMNS
    return LineCommand(Syntax(name, options), run)


COMMANDS = (list_command("lssyscfg", _LISTS),)
