"""The chapters of the server's cases: one module each, whose function `cases` returns its cases."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from swpks.conformance.case import ConformanceCase
from swpks.conformance.server.chapters import (
    arguments,
    durability,
    frames,
    ipl,
    labels,
    limits,
    objects,
    opening,
    order,
    passwords,
    policies,
    revocation,
    sessions,
    updates,
    wrapping,
)
from swpks.conformance.server.judged import Facts, Judged

Chapter = Callable[[Facts], Iterator[ConformanceCase[Judged]]]

# A run tries stage after stage.  Within a stage, the chapters come in this order, basic ones first.  A server
# with wrong frames fails almost every later case too.  So its author mends the first failure of a report
# first.
CHAPTERS: tuple[Chapter, ...] = (
    frames.cases,
    opening.cases,
    sessions.cases,
    arguments.cases,
    order.cases,
    limits.cases,
    passwords.cases,
    policies.cases,
    objects.cases,
    durability.cases,
    labels.cases,
    wrapping.cases,
    revocation.cases,
    updates.cases,
    ipl.cases,
)
WITHOUT_KEYSTORE: tuple[Chapter, ...] = (frames.cases, opening.cases, sessions.cases)
"""The chapters of a level without a keystore: frames, openings, and H_FUNCTION for every call."""


def all_cases(facts: Facts) -> list[ConformanceCase[Judged]]:
    """Return every case for the firmware level of a partition, in the order of the chapters."""
    chapters = CHAPTERS if facts.level.has_keystore else WITHOUT_KEYSTORE
    return [case for chapter in chapters for case in chapter(facts)]
