"""The way out of a line that waits for a system that is away (spec/console.md#migration)."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from hcall_server.console.jobs import Job
from hcall_server.console.systems import KnownSystem
from tests.console.test_lines_migration import ROW, pair

__all__ = ["pair"]


@pytest.mark.parametrize(
    "kind, decision, expected",
    [
        (
            "live",
            "open",
            "`migrlpar -o s -m S -p lpar1` stops it while S has not released lpar1; if S is ",
        ),
        ("live", "done", "attempt; if S is lost: `migrlpar -o r -m S -p lpar1 --force` starts lpar1 at T"),
        ("live", "forced", "Ctrl-C ends this command, and not the attempt"),
        (
            "inactive",
            "done",
            "if T is lost: `migrlpar -o r -m S -p lpar1 --force` gives lpar1 back to S",
        ),
        ("restart", "done", "attempt; `rrstartlpar -o cancel -m S -p lpar1` cancels it"),
        ("", "", "Ctrl-C ends this command, and not the attempt"),
    ],
)
async def test_a_recovery_that_waits_names_the_way_out(
    pair: Any, kind: str, decision: str, expected: str, autojump_clock: trio.testing.MockClock
) -> None:
    """A job that waits for a dead source: the line says the reason, how to stop waiting, and the commands."""
    pair.moves.rows = [ROW._replace(kind=kind, decision=decision)] if kind else []
    job = Job(1, "migrate", "S", waiting="S: nothing serves this system")

    async def recover(source: KnownSystem, name: str, *, force: bool = False) -> Job:
        return job

    async def end() -> None:
        await trio.sleep(60)
        job.state, job.waiting = "done", ""
        pair.console.jobs.wake_followers(job)

    pair.moves.recover = recover
    async with trio.open_nursery() as nursery:
        nursery.start_soon(end)
        status, output = await pair.run("migrlpar -o r -m S -p lpar1")
    assert (status, output.count("\n")) == (0, 0)
    assert output.startswith(
        "lpar1: waits (S: nothing serves this system); Ctrl-C ends this command, and not "
    )
    assert expected in output
