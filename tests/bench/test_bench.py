"""The benchmark runs and reports in full.  Its figures are not judged here: a test machine may be busy."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cases import CALLS, CONFIRMS, Goal
from bench.loadgen import Measured
from bench.measure import paired_ratio, work_ratio
from bench.programs import END, POLL, Program, answers_by_size, confirmed_writes
from hcall_abi.frames import HCall, HReturn
from hcall_abi.session import Role, SessionState
from tests.abi.sessions import CALL, at
from tests.debian.reporting import needed

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.process
def test_a_quick_run(tmp_path: Path) -> None:
    """Real servers, a real load: one case against the echo, one against bare commits."""
    needed("gcc", shutil.which("cc") or shutil.which("gcc"))
    command = [sys.executable, "-m", "bench", "--quick", "--seconds", "0.05", "--out", str(tmp_path)]
    done = subprocess.run(
        [*command, "--only", "read64", "confirm-1", "start", "fixture", "memory"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = {row["key"]: row for row in json.loads((tmp_path / "results.json").read_text())["rows"]}
    assert set(rows) == {"read64", "confirm-1", "start", "start-cpu", "fixture", "memory", "memory-loaded"}
    for key in ("read64", "confirm-1"):
        assert min(rows[key][name] for name in ("value", "p50", "p99", "ceiling", "ratio")) > 0
    assert set(rows["read64"]["rounds"]) == {"swpks", "echo", "plain"}
    assert set(rows["confirm-1"]["rounds"]) == {"swpks", "bare"}
    assert rows["start"]["value"] > 0
    assert rows["memory"]["met"] in (True, False)
    assert "READ 64 B, ping-pong" in done.stdout
    assert "| READ 64 B, ping-pong |" in (tmp_path / "results.md").read_text()
    assert (tmp_path / "results.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == []


def test_an_unknown_case_is_refused() -> None:
    """A mistyped case must not look like a run without results."""
    command = [sys.executable, "-m", "bench", "--only", "nothing"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no such case: nothing" in done.stderr


def test_the_echo_answers_frames_of_the_same_sizes() -> None:
    """What the echo server sends for a request has the size of what swpks sends, for every case."""
    answers = answers_by_size([program for case in CALLS for program in case.workload()])
    for case in CALLS:
        for step in [step for program in case.workload() for step in program.steps]:
            assert step.answers is not None
            assert len(step.answers) == step.awaited
            assert {len(answers[len(step.frames) // step.awaited])} == {len(each) for each in step.answers}


@pytest.mark.parametrize("case", [*CALLS, *CONFIRMS], ids=lambda case: case.key)
def test_programs_hold_the_protocol(case: object) -> None:
    """The frames of every case are whole HCALLs, and each has its HRETURN."""
    for program in case.workload():  # type: ignore[attr-defined]
        calls = [call for step in program.steps for call in frames(step.frames, Role.SERVER)]
        answers = [frames(each, Role.CLIENT) for step in program.steps for each in step.answers or ()]
        assert len(calls) == sum(step.awaited for step in program.steps) == len(answers)
        assert {type(call) for call in calls} == {HCall}
        assert {type(answer) for found in answers for answer in found} == {HReturn}


def test_a_confirmed_write_counts_once() -> None:
    """One send removes the last object, writes the next and asks; the CONFIRM that says flushed counts."""
    workload: list[Program] = confirmed_writes(3)
    assert len({program.steps for program in workload}) == 3
    for program in workload:
        assert [step.awaited for step in program.steps] == [3, 1]
        assert [step.units for step in program.steps if step.flags & END] == [1]
        assert [bool(step.flags & POLL) for step in program.steps] == [False, True]


def test_goals_are_judged_by_ratio_or_by_value() -> None:
    assert Goal(0.8).met(1.0, 0.8)
    assert not Goal(0.8).met(1000.0, 0.79)
    assert Goal(below=0.25).met(0.2, None)
    assert not Goal(below=0.25).met(0.25, None)


def test_ratios_are_those_of_one_round() -> None:
    """A machine that is three times as slow in one round changes no ratio."""
    ours, ceiling = (
        [Measured(rate, 1, 1, 1, 1, 0) for rate in rates] for rates in ([8, 24, 8], [10, 30, 10])
    )
    assert paired_ratio(ours, ceiling) == pytest.approx(0.8)


def test_work_counts_both_ends() -> None:
    """Twice the server's CPU beside the same client is no ratio of a half."""
    ours, ceiling = [Measured(1, 1, 1, 20, 10, 0)], [Measured(1, 1, 1, 10, 10, 0)]
    assert work_ratio(ours, ceiling) == pytest.approx(20 / 30)


def frames(data: bytes, role: Role) -> list[object]:
    """The frames in `data`, as the session engine reads them in an open session."""
    session = at(role, SessionState.OPEN)
    if role is Role.CLIENT:
        session.send(CALL._replace(tag=int.from_bytes(data[8:12], "big")))
    session.receive_data(data)
    return list(session.events())
