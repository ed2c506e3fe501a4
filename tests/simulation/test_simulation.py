"""A seed determines a history, and the simulated seams behave as the real ones must."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from swpks.testing.simulation import simulate
from swpks.testing.simulation.life import Life
from swpks.testing.simulation.pipes import pipes
from swpks.testing.simulation.plan import LENGTH, plan
from swpks.testing.simulation.seeds import choices, run_seeded
from swpks.testing.simulation.trace import MARK, Tap, Trace, in_base64
from swpks.testing.simulation.wires import Network
from tests.spec.markdown import ROOT

SAMPLE = (0, 2, 4, 6, 14, 19)
"""Random seeds with a third system and a follower, or a second partition, and seeds of directed stories."""
_PRINT = """import sys
from swpks.testing.simulation import simulate
for seed in (0, 2, 4, 6, 14, 19):
    print(*simulate(seed).trace, sep='\\n')
print(*simulate(2, nvram="etcd").trace, sep='\\n')
"""


def test_a_seed_has_one_history() -> None:
    assert simulate(1).trace == simulate(1).trace
    assert simulate(1).trace != simulate(2).trace


@pytest.mark.process
def test_another_process_with_other_hashes_has_the_same_history() -> None:
    found = {
        subprocess.run(
            [sys.executable, "-c", _PRINT],
            env={**os.environ, "PYTHONHASHSEED": hashes, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'spec'}"},
            capture_output=True,
            check=True,
            cwd=Path("/"),
        ).stdout
        for hashes in ("1", "20")
    }
    assert len(found) == 1
    outcomes = [*map(simulate, SAMPLE), simulate(2, nvram="etcd")]
    expected = "\n".join(line for each in outcomes for line in each.trace)
    assert found == {f"{expected}\n".encode()}


def test_a_run_takes_nothing_from_outside_and_leaves_nothing() -> None:
    async def drawn() -> tuple[bytes, bytes, list[int]]:
        order: list[int] = []

        async def one(number: int) -> None:
            await trio.sleep(1)
            order.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(one, number)
        return os.urandom(8), secrets.token_bytes(8), order

    before = os.urandom, secrets.token_bytes
    assert run_seeded(1, drawn) == run_seeded(1, drawn)
    assert run_seeded(1, drawn)[:2] != run_seeded(2, drawn)[:2]
    assert (os.urandom, secrets.token_bytes) == before


@pytest.mark.parametrize("kind, rule", [(12, "arrival.level"), (17, "restart.key")])
def test_a_system_that_differs_from_the_others(kind: int, rule: str) -> None:
    """R-50, R-52, R-53: a system without a keystore, or with another key, refuses the partition."""
    outcomes = [simulate(seed) for seed in range(kind, 140, 20)]
    lines = [line for each in outcomes for line in each.trace]
    assert not any(each.failure for each in outcomes)
    assert any(rule in line for line in lines)
    if rule == "arrival.level":
        assert not any(" c " in line and "ARRIVED" in line for line in lines)


def test_a_system_that_asks_has_no_memory_to_lose() -> None:
    """Seed 14487: the dead source of a remote restart returns, asks its console, and crashes again."""
    outcome = simulate(14487)
    assert not outcome.failure, outcome.failure


def test_a_source_that_is_fenced_before_its_target_serves() -> None:
    """Seed 232930: the target of a remote restart crashes after its commit. The dead source returns first."""
    outcome = simulate(232930)
    assert not outcome.failure, outcome.failure
    assert outcome.figures["restarts"] == 1


def test_a_failure_has_its_seed_and_its_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    from swpks.testing.simulation import migrants

    monkeypatch.setattr(migrants, "check", _refuse)
    outcome = simulate(3)
    assert "nothing is good enough" in outcome.failure
    assert outcome.seed == 3
    assert outcome.trace


def _refuse(*_: object) -> None:
    raise AssertionError("nothing is good enough")


def test_a_story_is_in_order_and_has_an_end() -> None:
    for seed in range(200):
        times = [step.at for step in plan(seed).steps]
        assert times == sorted(times)
        assert all(0 <= at < 2 * LENGTH for at in times)


def test_a_life_ends_before_a_step_or_behind_it() -> None:
    async def lived() -> None:
        for late in (False, True):
            life, ends = Life(), []
            life.at_end.append(lambda: ends.append(1))  # noqa: B023 - called in this round
            life.crash_at = 2, late
            assert not life.crashes_before()
            life.crash_after()
            assert life.crashes_before() is not late
            life.crash_after()
            assert not life.alive
            life.end()
            assert ends == [1]

    trio.run(lived)


def test_a_tap_hears_a_secret_in_each_form() -> None:
    async def heard() -> None:
        for form in (MARK, *in_base64(MARK), bytes(range(32)), bytes(range(32)).hex().encode()):
            trace = Trace()
            tap = Tap(trace)
            tap.forbid(bytes(range(32)))
            tap.listen("a wire", b"all is well")
            assert not trace.failures
            tap.listen("a wire", b"before " + form + b" after")
            assert trace.failures, form

    trio.run(heard)


def test_a_cut_stream_is_cut_at_both_ends() -> None:
    async def cut() -> None:
        trace = Trace()
        network = Network(choices(1, "network"), Tap(trace))
        ours, theirs = network.pair("a to b")
        network.cut_one_in = 1
        with pytest.raises(trio.BrokenResourceError):
            await ours.send_all(b"x")
        with pytest.raises(trio.BrokenResourceError):
            await theirs.receive_some()

    run_seeded(1, cut)


def test_a_pipe_holds_as_many_bytes_as_its_limit() -> None:
    async def sent() -> None:
        ours, theirs = pipes(limit=2)
        found = bytearray()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ours.send_all, b"abcde")
            while len(found) < 5:
                part = await theirs.receive_some()
                assert len(part) <= 2
                found += part
        assert found == b"abcde"
        await ours.aclose()
        assert await theirs.receive_some() == b""
        with pytest.raises(trio.BrokenResourceError):
            await theirs.send_all(b"x")

    run_seeded(1, sent)


def test_the_clock_goes_on_to_each_deadline_exactly() -> None:
    async def slept() -> float:
        await trio.sleep(1e4)
        return trio.current_time()

    assert run_seeded(1, slept) == 1e4
