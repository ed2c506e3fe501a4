"""Checks of the options in a mark, before pytest starts the fixture that reads the mark."""

# pytest-trio runs an asynchronous fixture within the test. If the fixture fails, its error comes in a group
# of exceptions, below the lines of four modules. So this module tries the options before the test begins. It
# calls the functions that the fixture will call: separate checks could differ from them.

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hcall_abi.consumers import SecureBoot
from hcall_abi.errors import OperatorError
from hcall_abi.levels import LEVELS
from swpks.testing.console import COPY_INTERVAL, PARTITIONS, emulated_console
from swpks.testing.options import WrongOption, check_console, fresh_partition, options_named
from swpks.testing.process import ServerProcess


def reason_against(mark: str, given: Sequence[object], options: Mapping[str, Any]) -> str | None:
    """Return the reason why a mark with these arguments is wrong, None if the mark is right."""
    known, trial = _KINDS[mark]
    names = ", ".join(known)
    if given:
        right = f"{_name_for(given[0], known)}={given[0]!r}"
        return f"{given[0]!r} has no name: write {right}; the names are {names}"
    for name in options.keys() - set(known):
        return f"there is no option {name!r}; the names are {names}"
    try:
        trial(**options)
    except (WrongOption, OperatorError) as error:
        return str(error)
    return None


def _name_for(value: object, known: Sequence[str]) -> str:
    """Return the name of the option that probably has a value; "NAME" if several may have it."""
    kinds: Sequence[tuple[str, bool]] = (
        ("level", isinstance(value, str) and value in LEVELS),
        ("secure_boot", isinstance(value, SecureBoot) or value in ("off", "audit", "enforce")),
        ("kbytes", isinstance(value, int) and not isinstance(value, bool)),
        ("partitions", isinstance(value, Mapping | Sequence) and not isinstance(value, str)),
        ("attributes", isinstance(value, Mapping)),
        ("faults", isinstance(value, Sequence) and not isinstance(value, str)),
        ("name", isinstance(value, str)),
    )
    return next((name for name, fits in kinds if fits and name in known), "NAME")


def _try_console(partitions: Mapping[str, Sequence[str]] = PARTITIONS, **options: Any) -> None:
    """Try the options of the mark `pks_console`: a wrong one raises the error that the fixture would raise.

    The partitions and systems that this makes are thrown away.
    """
    from hcall_server.service.assembly import assemble
    from swpks.testing.seams import simulated_seams
    from swpks.testing.system import settings_of

    check_console(partitions, **options)
    shared = {name: options[name] for name in ("level", "kbytes", "attributes") if name in options}
    for partition in {each for names in partitions.values() for each in names}:
        fresh_partition(partition, **shared)
    interval = {"copy_interval_s": options.get("copy_interval", COPY_INTERVAL)}
    numbers = {"keystore_kbytes": options.get("kbytes", 64)}
    for system, names in partitions.items():
        with options_named(copy_interval=options.get("copy_interval")):
            settings = settings_of(
                system, names, numbers, firmware=options.get("level", "FW1110"), **interval
            )
        assemble(simulated_seams(), settings)


def _try_server(**options: Any) -> None:
    from hcall_server.service.settings import parse_partition

    server = ServerProcess(Path("state"), **options)
    given = f"partitions={server.partitions}"
    for each in server.partitions:
        name, _, size = each.partition(":")
        if name.startswith("-"):
            raise WrongOption(f"{given}: {each!r} is an option: write options=[{each!r}]")
        if name.isdecimal() and size and not size.isdecimal():
            raise WrongOption(f"{given}: {each!r} is KBYTES:NAME; write {f'{size}:{name}'!r}")
        try:
            parse_partition(each)
        except OperatorError as error:
            finding = error.message.replace("keystore_kbytes", "KBYTES")
            raise OperatorError(
                error.rule, f"{given}: {finding}; write NAME:KBYTES, as in 'lpar1:64'"
            ) from None
    for each in server.options:
        if each.startswith("-") and " " in each and "=" not in each:
            raise WrongOption(f"options={server.options}: {each!r} is several words: write {each.split()}")


def _names(maker: Callable[..., object], *others: str) -> list[str]:
    """Return the names of the parameters of a function or a class, except `others`."""
    return [name for name in inspect.signature(maker).parameters if name not in others]


_KINDS: Mapping[str, tuple[list[str], Callable[..., object]]] = {
    "pks_partition": (_names(fresh_partition), fresh_partition),
    "pks_console": (_names(emulated_console), _try_console),
    "swpks_server": (_names(ServerProcess, "state"), _try_server),
}
"""The names of the options of each mark, and the function that tries them."""
