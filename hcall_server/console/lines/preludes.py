"""Short lists that clients read before their work: lshmc, lslic, lsrefcode, terminals, resources.

Facts that the console knows are printed as they are.  An emulated system has no processors, memory, RMC or
service processors: their values are constants (spec/choices.md#the-consoles-lines).
"""

# Clients such as op-test send these lines before their work.  So each command exists, with its options and
# its form of output.  Clients may act on some values, so these are true: there is no RMC connection, no open
# terminal, and no further resource.

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hcall_abi.control_views import SystemView
from hcall_abi.errors import OperatorError
from hcall_abi.rules import hmc as rules
from hcall_server import __version__
from hcall_server.console.grammar import NO_RESULTS
from hcall_server.console.lines.line import COLUMNS, FILTER, SYSTEM, Getters, Line, LineCommand, constant
from hcall_server.console.lines.lists import ListedPartition, filtered, listed_system, selected, state_of
from hcall_server.console.options import Option, Syntax, switch

_LEVEL = "V10R3"
"""The release of the real console whose lines these are."""
_OF_PARTITIONS = (SYSTEM, FILTER, *COLUMNS)


# lshmc

_VERSION = f'''"version= Version: 10
 Release: 3
 Service Pack: 0
HMC Build level swpks {__version__}
","base_version={_LEVEL}
"'''


def _vpd(console_id: str) -> str:
    """Return vital product data: type and serial number of this console."""
    serial = console_id[:7].upper()
    fields = (
        "*FC ????????",
        "*DS Hardware Management Console",
        "*TM swpks",
        f"*SE {serial}",
        f"*RM {_LEVEL}",
    )
    return '"vpd=' + "\n".join(fields) + '\n"'


_NETWORK: Getters[str] = {
    "hostname": lambda name: name,
    "domain": constant(""),
    "ipaddr": constant("127.0.0.1"),
    "networkmask": constant("255.0.0.0"),
}


async def _lshmc(line: Line) -> int:
    if "-n" in line.options:
        await line.show(_NETWORK, [line.console.name])
    else:
        await line.say(_VERSION if "-V" in line.options else _vpd(line.console.id))
    return 0


# Firmware

_LICENCE: Getters[SystemView] = {
    "lic_type": constant("Managed System"),
    "management_status": constant("Enabled"),
    "disabled_reason": constant(""),
    "activated_level": lambda it: it.firmware_level,
    "installed_level": lambda it: it.firmware_level,
    "accepted_level": lambda it: it.firmware_level,
    "mtms": lambda it: it.type_model_serial,
    "curr_level_primary": lambda it: it.firmware_level,
}


async def _lslic(line: Line) -> int:
    await line.show(_LICENCE, [await line.system()])
    return 0


# Reference codes

_CODES: Getters[ListedPartition] = {
    "lpar_name": lambda it: it.partition.name,
    "lpar_id": lambda it: str(it.partition.number),
    "time_stamp": constant(""),
    "refcode": lambda it: "Linux ppc64le" if state_of(it.partition) == "Running" else "",
    "word2": constant("00000000"),
}
_SYSTEM_CODES: Getters[SystemView] = {
    "refcode_num": constant("0"),
    "time_stamp": constant(""),
    "refcode": constant(""),
}


async def _lsrefcode(line: Line) -> int:
    if line.options.needed("-r") == "sys":
        await line.show(_SYSTEM_CODES, [await line.system()])
    else:
        await line.show(_CODES, await filtered(line, "lpar_names", "lpar_ids"))
    return 0


# Terminals


async def _rmvterm(line: Line) -> int:
    """Check that the partition exists; no terminal is ever open, so none is closed."""
    await line.partition("-p")
    return 0


async def _mkvterm(line: Line) -> int:
    partition = await line.partition("-p")
    message = f"mkvterm: {partition.name} has no virtual terminal; its guest runs outside of the console"
    raise OperatorError(rules.LINE_LATER, message)


# RMC, connections, resources


async def _lspartition(line: Line) -> int:
    """List the partitions of all connected systems.  None of them has RMC, so none is active."""
    systems = [await listed_system(known) for known in line.console.systems]
    partitions = [
        found
        for each in systems
        if each.connected and each.known.view
        for found in selected(each.known.view, {})
    ]
    lines: list[str] = []
    for number, each in enumerate(partitions):
        place = f"{each.partition.number}*{each.system.type_model_serial}"
        lines.append(f"<#{number}> Partition:<{place}, , >")
        lines.append("       Active:<0>, OS:<, , >, DCaps:<0x0>, CmdCaps:<0x00, 0x00>, PinnedMem:<0>")
    await line.say(*(lines or [NO_RESULTS]))
    return 0


# The same numbers as in `lssyscfg -r prof`: a client may compare the two.
_MEMORY: Getters[ListedPartition] = {
    "lpar_name": lambda it: it.partition.name,
    "lpar_id": lambda it: str(it.partition.number),
    "curr_min_mem": constant("1024"),
    "curr_mem": constant("4096"),
    "curr_max_mem": constant("8192"),
    "pend_mem": constant("4096"),
    "run_mem": lambda it: "4096" if it.partition.power == "running" else "0",
}
_PROCESSORS: Getters[ListedPartition] = {
    "lpar_name": lambda it: it.partition.name,
    "lpar_id": lambda it: str(it.partition.number),
    "curr_proc_mode": constant("shared"),
    "curr_min_procs": constant("1"),
    "curr_procs": constant("1"),
    "curr_max_procs": constant("4"),
    "run_procs": lambda it: "1" if it.partition.power == "running" else "0",
}
_SYSTEM_MEMORY: Getters[SystemView] = {
    "configurable_sys_mem": constant("1048576"),
    "curr_avail_sys_mem": constant("1048576"),
    "installed_sys_mem": constant("1048576"),
    "sys_firmware_mem": constant("0"),
    "mem_region_size": constant("256"),
}
_SYSTEM_PROCESSORS: Getters[SystemView] = {
    "configurable_sys_proc_units": constant("64.0"),
    "curr_avail_sys_proc_units": constant("64.0"),
    "installed_sys_proc_units": constant("64.0"),
    "max_procs_per_lpar": constant("64"),
}
_BY_PARTITION: Mapping[str, Getters[ListedPartition]] = {"mem": _MEMORY, "proc": _PROCESSORS}
_BY_SYSTEM: Mapping[str, Getters[SystemView]] = {"mem": _SYSTEM_MEMORY, "proc": _SYSTEM_PROCESSORS}

LISTS: Mapping[str, Getters[Any]] = {
    "lsrefcode -r lpar": _CODES,
    "lsrefcode -r sys": _SYSTEM_CODES,
    "lslic": _LICENCE,
    "lshmc -n": _NETWORK,
    **{f"lshwres -r {kind} --level lpar": getters for kind, getters in _BY_PARTITION.items()},
    **{f"lshwres -r {kind} --level sys": getters for kind, getters in _BY_SYSTEM.items()},
}
"""The attributes of each list here, by the line that shows it."""


async def _lshwres(line: Line) -> int:
    """List constants for processors and memory; an emulated system has no other resources."""
    kind, level = line.options.needed("-r"), line.options.value("--level") or "sys"
    if kind in _BY_PARTITION and level == "lpar":
        await line.show(_BY_PARTITION[kind], await filtered(line, "lpar_names", "lpar_ids"))
    elif kind in _BY_SYSTEM and level == "sys":
        await line.show(_BY_SYSTEM[kind], [await line.system()])
    else:
        await line.system()
        await line.say(NO_RESULTS)
    return 0


_PARTITION = (SYSTEM, Option("-p", "PARTITION"), Option("--id", "ID"))
_WHICH = (("-p", "--id"),)

COMMANDS = (
    LineCommand(
        Syntax(
            "lshmc",
            (switch("-V"), switch("-v"), switch("-n"), *COLUMNS),
            one_of=(("-V", "-v", "-n"),),
        ),
        _lshmc,
    ),
    LineCommand(
        Syntax(
            "lslic", (SYSTEM, Option("-t", choices=("sys", "syspower")), *COLUMNS), ignored={"-r": "value"}
        ),
        _lslic,
    ),
    LineCommand(
        Syntax(
            "lsrefcode",
            (Option("-r", choices=("lpar", "sys"), required=True), *_OF_PARTITIONS),
            ignored={"-n": "value", "-s": "value"},
        ),
        _lsrefcode,
    ),
    LineCommand(Syntax("rmvterm", _PARTITION, one_of=_WHICH), _rmvterm),
    LineCommand(Syntax("mkvterm", _PARTITION, one_of=_WHICH), _mkvterm),
    LineCommand(
        Syntax("lspartition", (), ignored={"-dlpar": "nothing", "-all": "nothing", "-c": "value"}),
        _lspartition,
    ),
    LineCommand(
        Syntax(
            "lshwres",
            (Option("-r", "RESOURCE", required=True), *_OF_PARTITIONS, Option("--level", "LEVEL")),
            ignored={"--rsubtype": "value", "-R": "nothing", "--pool": "value", "--maxmem": "value"},
        ),
        _lshwres,
    ),
)
