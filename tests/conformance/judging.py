"""Functions that judge a server in this process: a right server or a mutant."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from hcall_abi.levels import LEVELS
from swpks.conformance.case import Finding, Judgement
from swpks.conformance.server.chapters import all_cases
from swpks.conformance.server.connection import ServerPlace
from swpks.conformance.server.judged import Judged
from swpks.conformance.server.plan import Run, facts_of
from swpks.testing.blocking import BlockingPartition, blocking_partition
from tests.conformance.proxy import Mutant, ProxySocket

PATIENCE = 10.0
"""Seconds for an answer: long, because a slow machine must not make a case fail.

A proxy that drops an answer does not wait (`ProxySocket.recv`)."""
UPDATES = {"keystore_signed_updates": 1, "keystore_signed_updates_without_verification": 1}


@contextmanager
def server(level: str = "NEXT", kbytes: int = 64) -> Iterator[BlockingPartition]:
    """Yield a new partition.

    If its level has signed updates, they are on, and PK can be updated without verification.
    """
    attributes = UPDATES if "SIGNED_UPDATE" in {each.name for each in LEVELS[level].calls} else {}
    with blocking_partition(level=level, kbytes=kbytes, attributes=attributes) as partition:
        yield partition


def findings(
    partition: BlockingPartition, *patterns: str, mutant: Mutant | None = None, patience: float = PATIENCE
) -> Iterator[Finding]:
    """Yield the findings about a partition one by one; the caller may stop early."""
    shared: dict[str, object] = {}

    def dial() -> socket.socket:
        real = partition.locate()
        return real if mutant is None else ProxySocket(real, mutant, shared)  # type: ignore[return-value]

    place = ServerPlace("in this process", patience=patience, dial=partition.locate)
    # The facts come from the right server. A case has to find the mutant; the reading of the facts must not.
    facts = facts_of(place)
    run = Run(Judged(place._replace(dial=dial), facts), lambda: _ipl(partition))
    yield from run.findings(
        [case for case in all_cases(facts) if not patterns or any(map(case.chosen_by, patterns))]
    )


def _ipl(partition: BlockingPartition) -> None:
    partition.ipl()


def first_failure(mutant: Mutant) -> Finding | None:
    """Return the first case in the mutant's chapter that fails."""
    with server() as partition:
        return next(
            (
                each
                for each in findings(partition, mutant.chapter, mutant=mutant)
                if each.judgement is Judgement.FAILED
            ),
            None,
        )
