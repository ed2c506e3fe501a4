"""The states in which a system does not serve a partition, each with its reason and its remedy.

A state is a custody record and a mode (spec/migration.md#custody), by the names that views have.  The ready
line, `swpks lpar`, `swpks hmc status` and the refusals of power use the texts of this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from hcall_abi.rules import migration as rules
from hcall_abi.rules.rule import Rule


class Standstill(NamedTuple):
    """A state of a partition: the rule that forbids service, the state as text, the remedy.

    If the partition is served in this state, `rule` is None.  `words` is text that follows the partition's
    name.  `words` and `remedy` have three place-holders: {console} is the console, {reach} the way to reach
    the console, {name} the partition.
    """

    rule: Rule | None
    words: str
    remedy: str = ""


class KnownConsole(NamedTuple):
    """The console of a system; `connected` is None where that is not known."""

    name: str
    id: str
    connected: bool | None = None


NO_CONSOLE = KnownConsole("", "")
"""Stands for a console that is not known."""

_SHOWN = "swpks hmc --store DIR lslparmigr -r lpar -m SYSTEM"
_OWNER = f"use it at its owner; at the console: {_SHOWN} -F name,owner_sys_name"
_ASKING = Standstill(
    rules.CUSTODY_CONFIRMED,
    "waits until {console} agrees to its start",
    "{reach}; if it is lost, and no other system has the partition, restart the server by "
    "swpks serve --without-console: if another one has it, two systems serve it "
    "(swpks explain custody.confirmed)",
)
_COPYING = Standstill(None, "prepares to leave")
STATES: Mapping[tuple[str, str], Standstill] = MappingProxyType(
    {
        ("own", "serving"): Standstill(None, ""),
        ("arrived", "serving"): Standstill(None, ""),
        ("own", "copying"): _COPYING,
        ("arrived", "copying"): _COPYING,
        ("own", "asking"): _ASKING,
        ("arrived", "asking"): _ASKING,
        ("frozen", "waiting"): Standstill(
            rules.CUSTODY_OWNED,
            "is frozen, and waits for its target",
            f"wait for the end of its migration; at the console, {_SHOWN} shows it",
        ),
        ("frozen", "in-doubt"): Standstill(
            rules.CUSTODY_OWNED,
            "is frozen, and waits for {console}",
            "{reach}; if it is lost, start a new one and add both systems of the migration to it",
        ),
        ("released", "settled"): Standstill(
            rules.CUSTODY_OWNED,
            "is released to its target, and its store is still here",
            f"{_OWNER}; the other system has to run; after a remote restart remove this store: "
            "swpks hmc --store DIR rrstartlpar -o cleanup -m SYSTEM -p {name}",
        ),
        ("gone", "settled"): Standstill(
            rules.CUSTODY_OWNED,
            "has left",
            _OWNER,
        ),
        ("none", "settled"): Standstill(
            rules.CUSTODY_OWNED,
            "is not here: a copy of it was dropped",
            _OWNER,
        ),
        ("prepared", "settled"): Standstill(
            rules.CUSTODY_OWNED,
            "is prepared here, and not served yet",
            "the other system and the console end its migration: both have to run; "
            "if the other system is dead: swpks hmc --store DIR migrlpar -o r --force -m SOURCE -p {name}",
        ),
    }
)
"""Every state of spec/migration.md in which a partition rests."""
BETWEEN = Standstill(rules.CUSTODY_OWNED, "takes a step of a migration", "try again in a moment")
"""Any other pair: a step whose record is not durable yet has the next record and the present mode."""


def standstill(
    custody: str, mode: str, name: str, console: KnownConsole | None = NO_CONSOLE
) -> Standstill | None:
    """Return the state of a partition as text, None if it is served.  `console` is None if there is none."""
    # A view may catch a system between two steps, so an unknown pair is no error.
    found = STATES.get((custody, mode), BETWEEN)
    if found.rule is None:
        return None
    names = {"name": name, "console": _named(console), "reach": _reach(console)}
    return found._replace(words=found.words.format(**names), remedy=found.remedy.format(**names))


def words(custody: str, mode: str) -> str:
    """Return a state as text that follows the partition's name, "" for states without a message."""
    return STATES.get((custody, mode), BETWEEN).words.format(console="the console")


def _named(console: KnownConsole | None) -> str:
    return f"the console {console.name!r} ({console.id})" if console and console.id else "the console"


def _reach(console: KnownConsole | None) -> str:
    if console is None:
        return "no console is attached; start one: swpks hmc serve --store DIR --system SOCKET"
    if console.connected:
        return "the console is connected, and custody.unanswered in its log has the reason"
    if console.connected is None:
        return "start that console, if it does not run: swpks hmc serve --store DIR"
    return "that console is away; start it: swpks hmc serve --store DIR"


_RETURN = "swpks hmc chtskey -o return --sealed FILE"
BY_HAND = f"{_RETURN}, then swpks hmc restore FILE for each copy, then swpks hmc recover"
"""The steps of an operator in the state Recovery, in their order (spec/recovery.md)."""
KEY_FIRST = (
    f"in the state Recovery the key comes first: {BY_HAND}; "
    "the sealed file is that of lstskey --sealed; with the key itself: chtskey -o restore --newkey FILE"
)
"""The advice for a restore before the trusted system key is back."""
SYSTEM_REMEDIES: Mapping[str, str] = MappingProxyType(
    {
        "Recovery": f"its console restores the stores; by hand, in this order: {BY_HAND}",
        "Reset pending": "swpks hmc stop, and then swpks asmi reset-settings --state DIR",
    }
)
"""The way out of each state of a system in which it serves no partition."""


def not_operating(state: str) -> str:
    """Return the state of a system that serves no partition, with the way out."""
    remedy = SYSTEM_REMEDIES.get(state)
    return f"the system is in the state {state}" + (f": {remedy}" if remedy else "")
