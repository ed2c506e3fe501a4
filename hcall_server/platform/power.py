"""The power of a partition as a table of states (spec/control.md#power)."""

# Power: when a partition answers h-calls, and the effects of an IPL
#
# A partition is off, it runs, or it is refused.  Refused means: its records in NVRAM could not be opened, so
# the partition has no keystore.  The sessions and the console rely on this module for five guarantees:
#
#   1. With one exception, every way into RUNNING is an IPL.  TABLE has three rows that lead there.
#      `Partition` performs two of them by the same function, which begins an IPL.  The exception is ARRIVE:
#      a partition comes running from another system, and its IPL goes on here.
#   2. An IPL ends the passwords, the TRANSIENT objects and the open label lists of the last IPL
#      .  So does a power-off.  A live migration does not: it moves them too, but only in memory
#      .  If they are lost during the migration, the partition begins with an IPL.
#   3. An IPL latches the secure-boot mode.  `secure_boot` is the mode of this IPL; `next_secure_boot` is
#      the last setting of the console.  The console never changes the mode of a running guest, because the
#      guest has already measured it and acted on it.
#   4. The IPL count grows with every IPL.  A session knows the count that it was opened in.  So a session
#      of an old IPL is found even if it has not been ended yet.  The count can be raised ahead of the IPL
#      (`Partition.count_ipl`), so that no power cut lets two IPLs have one number.
#   5. A refused partition never runs, and its records stay as they are.  Otherwise the first flush would
#      replace records that the operator could still repair.
#
# Custody comes before this table: `Partition.next_power` refuses each event while another system may own the
# partition, or while the console has not agreed yet (`hcall_server.platform.custody`).  A partition that is
# frozen while it runs stays RUNNING.  Its calls are held, and no IPL ends the passwords that they rely on.
# When another system owns it, `Partition.leave` stops it without this table: no operator may refuse that.
#
# State, reason and lost name are one value, `PowerState`.  A partition is made with it: OFF, or the return
# value of `refused`.  We dropped three attributes, a flag for running, an error, and a flag for the name.
# With them, code could set the error of a running partition, and no check found it.
#
# REFUSED has no row that leads out of it.  The operator repairs or removes the records and starts the server
# again.  We dropped an event "repaired".  Recovery needs all records at once to distinguish a swapped
# blob from a damaged one, so it runs only at the start.
#
# TABLE has a row for every pair.  A pair without a next state has the rule that it breaks.  So every request
# has a defined answer.  The table of the page is made from it.

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import NamedTuple

from hcall_abi.errors import SwpksError
from hcall_abi.rules import console as rules
from hcall_abi.rules.rule import Rule


class Power(Enum):
    """Whether a partition runs, and whether it can."""

    OFF = "off"
    RUNNING = "running"
    REFUSED = "refused"


class PowerEvent(Enum):
    """An event that changes power; the value is the name of its verb, if there is one."""

    POWER_ON = "power-on"
    IPL = "ipl"
    POWER_OFF = "power-off"
    ARRIVE = "arrive"
    """The partition comes running from another system; no verb."""


class Objection(NamedTuple):
    """Why an event is refused in a state; `it` is the partition in the format of the message."""

    rule: Rule
    message: str


_RUNS = Objection(rules.POWER_STOPPED, "{it.name} is running")
_OFF = Objection(rules.POWER_RUNNING, "{it.name} is powered off")
_UNOPENED = Objection(rules.POWER_OPENED, "partition {it.name} cannot start: {it.refused.message}")

TABLE: Mapping[tuple[Power, PowerEvent], Power | Objection] = MappingProxyType(
    {
        (Power.OFF, PowerEvent.POWER_ON): Power.RUNNING,
        (Power.OFF, PowerEvent.IPL): _OFF,
        (Power.OFF, PowerEvent.POWER_OFF): _OFF,
        (Power.OFF, PowerEvent.ARRIVE): Power.RUNNING,
        (Power.RUNNING, PowerEvent.POWER_ON): _RUNS,
        (Power.RUNNING, PowerEvent.IPL): Power.RUNNING,
        (Power.RUNNING, PowerEvent.POWER_OFF): Power.OFF,
        (Power.RUNNING, PowerEvent.ARRIVE): _RUNS,
        (Power.REFUSED, PowerEvent.POWER_ON): _UNOPENED,
        (Power.REFUSED, PowerEvent.IPL): _OFF,
        (Power.REFUSED, PowerEvent.POWER_OFF): _OFF,
        (Power.REFUSED, PowerEvent.ARRIVE): _UNOPENED,
    }
)
"""The next state for each event in each state, or the rule that refuses it."""


class PowerState(NamedTuple):
    """The power of a partition; `reason` and `name_unknown` belong to REFUSED.

    `name_unknown`: the profile could not be read, so the partition's name is a substitute.
    """

    power: Power
    reason: SwpksError | None = None
    name_unknown: bool = False


OFF = PowerState(Power.OFF)
RUNNING = PowerState(Power.RUNNING)


def refused(reason: SwpksError, *, name_unknown: bool = False) -> PowerState:
    """Return the state of a partition whose records could not be opened."""
    return PowerState(Power.REFUSED, reason, name_unknown)
