"""The faults of a simulated etcd, drawn from a seed: fates of requests, outages, ends of leases."""

# How the faults are drawn
#
# The story of a seed (`plan`) stays the same with etcd. These faults are drawn beside it, from a generator of
# its own, so that a seed has the same orders and crashes with both kinds of NVRAM.
#
# Four kinds of faults are needed, because each shows other mistakes:
#
#   share      Each request meets a fate by chance. A late commit shows a chain without its predecessor, and a
#              lost one shows a commit that is reported without an answer.
#   outages    All requests of one owner, one system or all systems have no answer for some seconds. A lease
#              then ends by the owner's clock. With the fate `unanswered` etcd carries all of them out.
#   crashes    A system crashes directly after a commit: after one without an answer, or between two parts of
#              a flight. The crashes of the story are too few for these.
#   ends       etcd ends the lease of a system too early (etcd-io/etcd#15247). The owner learns it at its next
#              keep-alive, and another owner may have begun before that.
#
# `records` is the largest commit. With etcd's own limit of 120 records, the flights of one or two partitions
# are never divided. 4 leaves room for the three records of one departure, which the product keeps together
# if they fit. With less room, a start after a cut departure may make the partition of its settings anew: the
# name is not reserved any more (seed 5435 with 3). Tests of planted mistakes use less on purpose.
#
# `pace` is the speed of an owner's clock. A machine that was suspended learns too late that its lease is
# over. Only the compare in each transaction stops it.

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from swpks.testing.etcd.network import Fate
from swpks.testing.simulation.plan import LENGTH
from swpks.testing.simulation.seeds import choices

ALL = ""
"""The name of all systems, as the target of an outage."""
SHARES = (0.02, 0.1, 0.2, 0.35)
_ONCE: tuple[Fate, ...] = ("lost", "repeated", "unavailable", "refused")
CHANCES: tuple[Fate, ...] = ("late",) * 4 + ("unanswered",) * 3 + _ONCE
"""The fates by chance. The weights: the longer the truth is unknown, the more often."""
OUTAGES: tuple[Fate, ...] = ("lost", "unanswered", "late", "unavailable", "refused")
CRASHES = (0.0, 0.03, 0.1)
LIMITS = (4, 4, 5, 120)
"""Most records of a commit; 120 is the product's own limit."""


class Outage(NamedTuple):
    """All requests of the system `who` meet the fate `fate`, from the time `at` on, for `seconds`.

    With `follows`, requests of each owner do.  Without it, only those of the owner at its beginning do, so
    that a standby on another machine can take over at once.
    """

    at: float
    seconds: float
    who: str
    fate: Fate
    follows: bool


class EtcdPlan(NamedTuple):
    """The faults of a seed; times are in seconds from the beginning of the story."""

    members: int
    """Members that a server asks in turn: if one does not answer, the next one gets the same request."""
    share: float
    """The share of the requests that meet a fate by chance."""
    crashes: float
    """The share of the commits after which a system crashes."""
    records: int
    """The largest commit: most records."""
    outages: Sequence[Outage]
    ends: Sequence[tuple[float, str]]
    """The times at which etcd ends the lease of a system too early."""
    pace: float
    """The seconds of an owner's clock in one second of etcd's."""


def etcd_plan(seed: int, systems: Sequence[str]) -> EtcdPlan:
    """Return the faults of a seed."""
    chance = choices(seed, "etcd")
    whom = (*systems, *systems, ALL)
    outages = [
        Outage(
            chance.uniform(0.3, LENGTH),
            chance.choice((0.3, 1.0, 3.0, 5.0)),
            chance.choice(whom),
            chance.choice(OUTAGES),
            chance.random() < 0.5,
        )
        for _ in range(chance.choice((0, 0, 1, 1, 2)))
    ]
    ends = [(chance.uniform(0.3, LENGTH), chance.choice(systems)) for _ in range(chance.choice((0, 0, 0, 1)))]
    return EtcdPlan(
        chance.choice((1, 1, 2, 3)),
        chance.choice(SHARES),
        chance.choice(CRASHES),
        chance.choice(LIMITS),
        sorted(outages),
        sorted(ends),
        chance.choice((1.0, 1.0, 1.0, 0.7)),
    )
