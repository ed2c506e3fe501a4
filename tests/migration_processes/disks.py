"""A migration of real processes in which one storage operation of source, target or console fails.

Operation number n fails once, with EIO or ENOSPC, for n = 1, 2, 3 and so on. The series ends when an
attempt has fewer than n operations. The count begins with the order and stops at the end of the attempt.
After the error a system must go on by itself. A console may end, and is then started again. `fleet.load`
checks the result, as after each kill.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from itertools import count, product
from typing import NamedTuple

from hcall_abi.errors import SwpksError
from swpks.testing.own_process import ServerFailed
from tests.migration_processes import restarts
from tests.migration_processes.client import Load
from tests.migration_processes.disk_switch import DiskSwitch
from tests.migration_processes.fleet import Fleet
from tests.migration_processes.live import process_of

ROLES = ("source", "target", "console")
ERRORS = (errno.EIO, errno.ENOSPC)


class DiskFault(NamedTuple):
    """The kind of migration, the process whose storage fails, and the error."""

    kind: str
    role: str
    error: int

    @property
    def name(self) -> str:
        """Return the name of this fault for messages."""
        return f"{self.kind}-{self.role}-{errno.errorcode[self.error]}"


def switch_of(fleet: Fleet, role: str) -> DiskSwitch:
    """Return the disk switch of source, target or console."""
    process = process_of(fleet, role)
    return next(each for each in fleet.switches if each.process is process)


Fails = Callable[[], AbstractContextManager[None]]
"""Returns the block in which the operation fails."""


def sweep(fleet: Fleet, fault: DiskFault, first: int = 1, stride: int = 1) -> int:
    """Make attempts in which the n-th operation fails, for each n from `first` on; return their number."""
    for nth in count(first, stride):
        try:
            struck = attempt(fleet, fault, nth)
        except Exception as error:
            raise AssertionError(f"{fault.name}, n = {nth}: {error}") from error
        if not struck:
            return (nth - first) // stride
    raise RuntimeError("a count has no end")


def attempt(fleet: Fleet, fault: DiskFault, nth: int) -> bool:
    """Make an attempt in which the `nth` operation fails; return False if it has fewer operations."""
    calls = list[int]()

    @contextmanager
    def fails() -> Iterator[None]:
        switch = switch_of(fleet, fault.role)
        switch.arm(nth, fault.error)
        try:
            yield
        finally:
            calls.append(switch.disarm())

    with fleet.load() as load:
        PLAYS[fault.kind, fault.role == "source"](fleet, load, fails)
    return calls[0] >= nth


def _live(fleet: Fleet, load: Load, fails: Fails) -> None:
    with fails():
        fleet.move().ended()
        _settled(fleet)
    load.goes_on()


def _inactive(fleet: Fleet, load: Load, fails: Fails) -> None:
    with load.paused():
        fleet.power_off()
        with fails():
            fleet.move().ended()
            _settled(fleet)
        fleet.power_on(fleet.settled())


def _restart(fleet: Fleet, load: Load, fails: Fails) -> None:
    """Make a remote restart in which the storage of target or console fails; the source is dead."""
    restarts.lose_source(fleet, load)
    with fails():
        fleet.until(lambda: _restarted(fleet), "the target does not serve")
    restarts.ends_at_target(fleet, load)


def _returns(fleet: Fleet, load: Load, fails: Fails) -> None:
    """Make a remote restart; the source's storage fails when it returns or is cleaned up."""
    restarts.lose_source(fleet, load)
    restarts.order_restart(fleet).ended()
    restarts.serves_alone(fleet, load)
    with fails():
        try:
            fleet.start_again(fleet.source)
        except ServerFailed:
            fleet.start_again(fleet.source)
        restarts.is_fenced(fleet)
        fleet.until(lambda: restarts.clean_up(fleet).ended()[0] == 0 or fleet.is_gone(fleet.source), "left")
    assert fleet.settled() is fleet.target


PLAYS = {
    **{("live", is_source): _live for is_source in (True, False)},
    **{("inactive", is_source): _inactive for is_source in (True, False)},
    ("restart", True): _returns,
    ("restart", False): _restart,
}


def _settled(fleet: Fleet) -> None:
    """Wait for the end of an attempt, without an order.

    A console that has ended is started again.
    """

    def found() -> bool:
        _revive(fleet)
        with suppress(SwpksError):
            return fleet.is_settled()
        return False

    fleet.until(found, "no end")


def _restarted(fleet: Fleet) -> bool:
    """Order a remote restart unless one runs; return whether the target serves the partition."""
    _revive(fleet)
    with suppress(SwpksError):
        if not fleet.serves(fleet.target) and not fleet.moves():
            restarts.order_restart(fleet).ended()
        return fleet.serves(fleet.target)
    return False


def _revive(fleet: Fleet) -> None:
    """Start the console again if an error of its store has ended it. A system must still run."""
    if fleet.console.pid is None:
        fleet.start_again(fleet.console)


FAULTS = [DiskFault(*each) for each in product(("live", "inactive", "restart"), ROLES, ERRORS)]
"""Each kind of migration, with each role and each error."""
