"""The options of an emulated partition: checks of their values, and the machine that they describe.

The author of a test writes options in a mark, far from the code that uses them.  So each value is checked
before anything runs, and the error names the option.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, TypedDict

from hcall_abi.attributes import attribute_number
from hcall_abi.consumers import SecureBoot
from hcall_abi.errors import OperatorError
from hcall_abi.faults import BusyFault, parse_fault
from hcall_abi.levels import LEVELS
from hcall_abi.mistakes import Mistake, WrongType, kind_of
from hcall_abi.rules import console, service
from hcall_abi.rules.rule import Rule
from swpks.testing.seams import simulated_seams

if TYPE_CHECKING:
    from hcall_server.data_channel.memory import MemoryTransport
    from hcall_server.machine.machine import Machine
    from hcall_server.nvram.memory import MemoryNvram
    from hcall_server.platform.partition import Partition

FLUSH_DELAY = 0.0
"""Seconds for which a change waits for others before its flush.  It is 0, so that tests need not wait."""

_KINDS: Mapping[str, tuple[tuple[type, ...], str]] = {
    "name": ((str,), "text"),
    "secure_boot": ((object, bool), "a mode"),  # the server checks it, because it knows the modes
    "level": ((str,), "the name of a firmware level"),
    "kbytes": ((int,), "a number of KiB"),
    "strict_memory": ((bool,), "True or False"),
    "flush_delay": ((int, float), "a number of seconds"),
    "confirm_wait": ((int, float), "a number of seconds"),
    "copy_interval": ((int, float), "a number of seconds"),
    "keep": ((int,), "a number of copies"),
    "manual_recovery": ((bool,), "True or False"),
    "attributes": ((Mapping,), 'a dictionary such as {"keystore_signed_updates": 1}'),
}
"""The type of each option, and its description for an error."""


_SIZE = "keystore_kbytes"
"""The size of a keystore among the attributes."""
_OF_RULES: Mapping[Rule, tuple[str, str]] = {
    service.FLUSH_DELAY_RANGE: ("flush_delay", "it is 0 to 60 seconds"),
    service.CONFIRM_WAIT_RANGE: ("confirm_wait", "it is 0 to 1 second"),
    service.COPY_INTERVAL_RANGE: ("copy_interval", "it is 0.01 to 86400 seconds"),
    console.SIZE_RANGE: ("kbytes", ""),
    console.NAME_FORM: ("name", ""),
}
"""The option behind each rule, and its range in the unit of the option; "" keeps the server's message."""


class WrongOption(Mistake, ValueError):
    """An option of a partition, a console or a server has a wrong type or value."""


class PartitionOptions(TypedDict, total=False):
    """The options of `fresh_partition`, except the name."""

    level: str
    kbytes: int
    secure_boot: SecureBoot | str
    strict_memory: bool
    flush_delay: float
    confirm_wait: float
    attributes: Mapping[str, int | str]
    faults: Sequence[str]


class FreshPartition(NamedTuple):
    """A partition that does not run yet, with the machine that will serve it."""

    machine: Machine
    partition: Partition
    transport: MemoryTransport
    nvram: MemoryNvram


def check_options(**options: object) -> None:
    """Raise WrongOption if an option has a wrong type, or if the firmware level is unknown."""
    for name, value in options.items():
        kinds, words = _KINDS[name]
        # A bool is an int in Python. Without the second part, kbytes=True would be 1 KiB.
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise WrongOption(f"{name}={value!r}: it is {words}{_exchanged(name, options)}")
    keep = options.get("keep", 1)
    if isinstance(keep, int) and keep < 1:
        raise WrongOption(f"keep={keep}: a console keeps 1 copy of each store or more")
    attributes = options.get("attributes")
    if isinstance(attributes, Mapping) and "keystore_kbytes" in attributes:
        message = f"the size is an option of its own: write kbytes={attributes['keystore_kbytes']!r}"
        raise WrongOption(f"attributes={attributes!r}: {message}")
    for each in attributes if isinstance(attributes, Mapping) else ():
        if not isinstance(each, str):
            raise WrongOption(f"attributes={attributes!r}: the name of an attribute is text, not {each!r}")
    level = options.get("level", "FW1110")
    if level not in LEVELS:
        raise WrongOption(
            f"level={level!r}: the levels are {', '.join(LEVELS)}{_exchanged('level', options)}"
        )


def _exchanged(name: str, options: Mapping[str, object]) -> str:
    """Return the end of an error if another option has the value of a wrong `level`; otherwise ""."""
    for other, value in options.items() if name == "level" else ():
        if other != "level" and isinstance(value, str) and value in LEVELS:
            return f"; {other}={value!r} is a level: write level={value!r}"
    return ""


@contextmanager
def options_named(**given: object) -> Iterator[None]:
    """Name the option of the test in an error of the server, which names its own settings."""
    try:
        yield
    except OperatorError as error:
        option, words = _OF_RULES.get(error.rule, ("kbytes" if _SIZE in error.message else "", ""))
        if option not in given:
            raise
        _, _, finding = error.message.rpartition(": ") if _SIZE in error.message else ("", "", error.message)
        text = words or finding.replace(_SIZE, "it")
        raise OperatorError(error.rule, f"{option}={given[option]!r}: {text}") from None


def check_words(name: str, value: object, example: str) -> tuple[str, ...]:
    """Return a list of texts as a tuple; WrongOption for anything else."""
    # A single text is a sequence too. Without this check it would become a list of its letters.
    if not isinstance(value, Sequence | set | frozenset) or isinstance(value, str | bytes):
        raise WrongOption(f"{name}={value!r}: it is a list, such as {name}={example}")
    if wrong := [each for each in value if not isinstance(each, str)]:
        raise WrongOption(f"{name}={value!r}: {wrong[0]!r} is no text; write {name}={example}")
    return tuple(value)


def numbers_of(attributes: Mapping[str, int | str]) -> dict[str, int]:
    """Return the numbers of console attributes; OperatorError for an unknown name or a wrong value."""
    return {name: attribute_number(name, value) for name, value in attributes.items()}


def check_console(partitions: object, **options: object) -> None:
    """Raise WrongOption for an option of `emulated_console` of the wrong type."""
    if not isinstance(partitions, Mapping):
        example = '{"a": ["lpar1"], "b": []}'
        raise WrongOption(f"partitions={partitions!r}: it is a dictionary, such as {example}")
    for each, names in partitions.items():
        if not isinstance(each, str):
            raise WrongOption(f"partitions={partitions!r}: the name of a system is text, not {each!r}")
        check_words(f"partitions[{each!r}]", names, '["lpar1"]')
    check_options(**options)


def check_known(maker: Callable[..., object], options: Mapping[str, object]) -> None:
    """Raise WrongOption if a function has no parameter for an option."""
    known = inspect.signature(maker).parameters
    for name in options:
        if name not in known:
            raise WrongOption(f"there is no option {name!r}; the names are {', '.join(known)}")


def faults_of(faults: Sequence[object]) -> list[BusyFault]:
    """Return the fault plan for the arguments of `set_faults`; WrongType if one of them is no text."""
    for each in faults:
        if not isinstance(each, str):
            message = f"set_faults takes texts, one for each fault, not {kind_of(each)}"
            raise WrongType(
                f'{message}: write set_faults("READ_OBJECT=H_BUSY", "WRITE_OBJECT=H_BUSY,times=2")'
            )
    return [parse_fault(str(each)) for each in faults]


def _check_plan(plan: Sequence[str], level: str) -> None:
    """Raise WrongOption for a fault of an h-call that the firmware level lacks: it would never answer."""
    for each in map(parse_fault, plan):
        if each.call not in LEVELS[level].calls:
            later = next(name for name, row in LEVELS.items() if each.call in row.calls)
            raise WrongOption(
                f"faults={[*plan]}: the firmware level {level} lacks {each.call.name}, so no fault "
                f"answers it: write level={later!r}"
            )


def check_own_options(options: Sequence[str], own: Mapping[str, str]) -> None:
    """Raise WrongOption for an option that a process object sets itself; `own` has the remedies."""
    for each in options:
        name = each.partition("=")[0]
        if name in own:
            raise WrongOption(f"options={[*options]}: {name} is set by the process object: {own[name]}")


def fresh_partition(
    name: str = "lpar1",
    *,
    level: str = "FW1110",
    kbytes: int = 64,
    secure_boot: SecureBoot | str = SecureBoot.OFF,
    strict_memory: bool = True,
    flush_delay: float = FLUSH_DELAY,
    confirm_wait: float = 0.0,
    attributes: Mapping[str, int | str] = MappingProxyType({}),
    faults: Sequence[str] = (),
) -> FreshPartition:
    """Make a machine with one new partition; both run while `Machine.run` runs.

    `level` is the name of a firmware level, `kbytes` the size of the keystore in KiB (0: none).
    `secure_boot` is a mode or its name, such as "enforce".  A change waits at most `flush_delay` seconds for
    its flush.  A CONFIRM waits at most `confirm_wait` seconds for that flush (0: it is answered at once).
    `attributes` are further console attributes by their names, such as ``{"keystore_signed_updates": 1}``
    (spec/control.md#attributes).  `faults` is a plan as for `EmulatedPartition.set_faults`.

    WrongOption for a value of the wrong type, OperatorError for a value that breaks a rule.
    """
    check_options(
        name=name, level=level, kbytes=kbytes, secure_boot=secure_boot, strict_memory=strict_memory,
        flush_delay=flush_delay, confirm_wait=confirm_wait, attributes=attributes,
    )  # fmt: skip
    plan = check_words("faults", faults, '["READ_OBJECT=H_BUSY,times=2"]')
    changes = numbers_of({"secure_boot": secure_boot, **attributes})
    # The server is loaded here, so that tests without a partition do not load it.
    from hcall_server.data_channel.memory import MemoryTransport
    from hcall_server.nvram.memory import MemoryNvram
    from hcall_server.service.assembly import assemble
    from hcall_server.service.settings import PartitionSettings, Settings

    transport, nvram = MemoryTransport(), MemoryNvram()
    with options_named(name=name, kbytes=kbytes, flush_delay=flush_delay, confirm_wait=confirm_wait):
        settings = Settings(
            firmware=level,
            strict_memory=strict_memory,
            flush_delay_ms=flush_delay * 1000,
            confirm_wait_ms=confirm_wait * 1000,
            partition=(PartitionSettings.of(name, kbytes, faults=plan),),
        )
        machine = assemble(simulated_seams(nvram=nvram, transport=transport), settings)
    _check_plan(plan, level)
    # The verb of the console sets the attributes: it refuses a wrong value with the OperatorError of the
    # rule.
    machine.set_attributes(name, changes)
    return FreshPartition(machine, machine.system.find(name), transport, nvram)
