"""The benchmark runs, and its report is complete. The figures are not checked: a test machine may be busy."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.back_ends import MISSING, SQLITE, Timings, rows_of
from bench.cases import CALLS, CONFIRMS
from bench.demo import seconds_of
from bench.figures import paired_ratio, work_ratio
from bench.floods import FLOODS, OFFENDER, SETTINGS, prepare_offender, wrong_update
from bench.goals import Goal
from bench.loadgen import Measured
from bench.peers import AGAINST, peer_row
from bench.programs import (
    END,
    END_IF,
    LATER,
    POLL,
    START,
    answers_by_size,
    confirmed_writes,
    polled_writes,
)
from bench.realtime import RealTime, each_thread
from bench.report import markdown, table
from hcall_abi.frames import HCall, HReturn
from hcall_abi.rules import updates as rules
from hcall_abi.session import Role, SessionState
from hcall_client.errors import HcallError
from swpks.testing import ServerProcess
from tests.abi.sessions import CALL, at
from tests.debian.reporting import needed

PNG = b"\x89PNG"
ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def out() -> Iterator[Path]:
    """A folder for results. Its path is short, because servers make their sockets below it."""
    with tempfile.TemporaryDirectory(prefix="swpks-") as folder:
        yield Path(folder)


def quick(out: Path, *cases: str) -> tuple[dict[str, dict], str]:
    """Run some cases quickly, with real servers and load; return the rows by key, and the printed text."""
    needed("gcc", shutil.which("cc") or shutil.which("gcc"))
    command = [sys.executable, "-m", "bench", "--quick", "--seconds", "0.05", "--out", str(out)]
    done = subprocess.run(
        [*command, "--only", *cases], cwd=ROOT, capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((out / "results.json").read_text())["rows"]
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == []
    return {row["key"]: row for row in rows}, done.stdout


@pytest.mark.process
def test_a_quick_run_reports_everything(out: Path) -> None:
    """A quick run reports each figure of its cases in its output, on the page and in the plot.

    READ is compared with the echo server, the poll with bare commits.
    """
    rows, printed = quick(out, "read64", "poll-1", "start", "fixture", "memory")
    assert set(rows) == {"read64", "poll-1", "start", "start-cpu", "fixture", "memory", "memory-loaded"}
    for key in ("read64", "poll-1"):
        assert min(rows[key][name] for name in ("value", "p50", "p99", "cpu", "ceiling", "ratio")) > 0
    assert set(rows["read64"]["rounds"]) == {"swpks", "echo", "plain"}
    assert set(rows["poll-1"]["rounds"]) == {"swpks", "bare"}
    assert rows["poll-1"]["cpu_ratio"] > 0
    assert rows["start"]["ratio"] == pytest.approx(rows["start"]["value"] / rows["start"]["ceiling"])
    assert rows["memory"]["met"] in (True, False)
    assert "READ 64 B, ping-pong" in printed
    page = (out / "results.md").read_text()
    assert "| READ 64 B, ping-pong |" in page
    assert re.search(r"fifo (yes|no: [^,]+),", page)
    assert (out / "results.png").read_bytes().startswith(PNG)


@pytest.mark.process
def test_a_quick_run_grows(out: Path) -> None:
    """A quick run reports rates relative to the smallest server, and the memory of each size."""
    rows, _ = quick(out, "partitions", "connections")
    for what, most in (("partition", 3), ("connection", 20)):
        assert rows[f"{what}s-1"]["value"] > 0
        grown = rows[f"{what}s-{most}"]
        assert grown["ratio"] == pytest.approx(rows[f"{what}s-1"]["p50"] / grown["p50"])
        assert grown["met"] in (True, False)
        assert rows[f"memory-{what}s-{most}"]["value"] > 10
        assert rows[f"memory-per-{what}"]["unit"] == "KB"
    assert rows["start-partitions-3"]["value"] > 0
    assert (out / "growth.png").read_bytes().startswith(PNG)


@pytest.mark.process
@pytest.mark.slow
def test_a_quick_run_floods_a_neighbour(out: Path) -> None:
    """Each flood reaches the measured server and the control server, while the console gets requests."""
    rows, printed = quick(out, "neighbour")
    for name in FLOODS:
        row = rows[f"neighbour-{name}-1"]
        assert min(row[each] for each in ("p50", "p99", "ceiling", "ratio")) > 0
        assert set(row["rounds"]) == {"swpks", "control"}
        assert set(rows[f"console-{name}-1"]["rounds"]["console"][0]) == {"health", "power_off"}
    assert "a neighbour under a flood:" in printed
    assert (out / "neighbour.png").read_bytes().startswith(PNG)


@pytest.mark.process
def test_a_quick_run_waits_for_flushes(out: Path) -> None:
    """A quick run has rows for three more comparisons: waiting CONFIRMs, large stores, other programs.

    If another program is not installed, its row says so.
    """
    rows, _ = quick(out, "confirm-1", "confirm-64", "objects", "peers")
    assert min(rows["confirm-1"]["ratio"], rows["confirm-64"]["ratio"]) > 0
    for key in ("objects-20", "objects-labels-20", "objects-write-20", "objects-confirmed-20"):
        assert rows[key]["ratio"] > 0
    assert rows["hold-20"]["met"] in (True, False)
    for key, program in (("redis-get-read4000", "redis-check-rdb"), ("swtpm-nv-read64", "swtpm")):
        there = shutil.which(program) is not None
        assert (rows[key]["value"] is not None) is there
        assert ("is not installed" in rows[key]["note"]) is not there


@pytest.mark.process
def test_a_quick_run_compares_back_ends(out: Path) -> None:
    """A quick run has a row for each operation over each back end of NVRAM, and a plot.

    If etcd is not installed, its rows say so.
    """
    rows, printed = quick(out, "nvram")
    there = shutil.which("etcd") is not None
    for key in ("commit-1x4", "commit-1x64", "commit-16x64", "commit-64x4", "confirmed-1", "confirmed-16"):
        sqlite = rows[f"nvram-{key}-0"]
        assert min(sqlite[each] for each in ("value", "p50", "p99")) > 0
        for nodes in (1, 3):
            row = rows[f"nvram-{key}-{nodes}"]
            assert (row["value"] is not None) is there
            assert row["note"] == ("" if there else MISSING)
            assert not there or min(row[each] for each in ("p50", "p99", "ratio")) > 0
    assert "commit of 16 x 64 KiB, etcd, 3 nodes" in printed
    assert (out / "nvram.png").read_bytes().startswith(PNG)


def test_a_missing_etcd_is_said() -> None:
    """Without etcd the report has its rows, with the command that installs it."""
    timings = Timings()
    timings.add([0.001, 0.003], 0.004)
    rows = rows_of("nvram-commit-1x4", "commits", "commit of 4 KiB", {SQLITE: timings})
    assert [row.value for row in rows] == [500, None, None]
    assert table(rows).count(MISSING) == 2


@pytest.mark.process
def test_wrong_signatures_cost_all_trials(tmp_path: Path) -> None:
    """With wrong signatures the server tries its maximum of pairs of key and signature.

    The report has that number.
    """
    server = ServerProcess(tmp_path / "s", [f"{OFFENDER}:{SETTINGS}"]).start()
    try:
        with server.connect_blocking(OFFENDER) as channel:
            prepare_offender(channel)
            with pytest.raises(HcallError):
                channel.call(wrong_update())
        assert server.log_lines(rules.UPDATE_TRIALS.id)
    finally:
        server.kill()


def test_a_case_without_its_peer_says_so() -> None:
    """If a program is missing, the report has the reason, and no failure or empty cell."""
    row = peer_row(AGAINST[0], {})
    assert (row.value, row.ratio) == (None, None)
    assert row.note == "Redis is not installed: tools/debian-packages bench"
    assert row.note in table([row])
    assert row.note in markdown([row], {})


def test_a_thread_may_end_while_threads_are_pinned() -> None:
    """A thread may end while the threads of a process are pinned. Each other thread is pinned once.

    A thread that has just begun is pinned too.
    """
    seen: list[int] = []
    over = threading.Event()
    later = threading.Thread(target=over.wait)

    def act(thread: int) -> None:
        seen.append(thread)
        if len(seen) == 1:
            later.start()
            raise ProcessLookupError

    each_thread(os.getpid(), act)
    over.set()
    later.join()
    assert len(seen) == len(set(seen))
    assert {threading.get_native_id(), later.native_id} <= set(seen)


def test_what_runs_in_real_time_stays_there_for_the_block_alone() -> None:
    """After the block, the benchmark's own thread has its old scheduler and cores."""
    before = os.sched_getscheduler(0), os.sched_getaffinity(0)
    real_time = RealTime()
    with real_time.here(min(before[1])):
        assert (os.sched_getscheduler(0) == os.SCHED_FIFO) is real_time.active
        assert os.sched_getaffinity(0) == {min(before[1])}
    assert (os.sched_getscheduler(0), os.sched_getaffinity(0)) == before
    assert RealTime(wanted=False).text.startswith("no")


def test_an_unknown_case_is_refused() -> None:
    """A mistyped case is an error, not a run without results."""
    command = [sys.executable, "-m", "bench", "--only", "nothing"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no such case: nothing" in done.stderr


def test_the_echo_answers_frames_of_the_same_sizes() -> None:
    """For every case, the answers of the echo server have the same sizes as those of swpks."""
    answers = answers_by_size([program for case in CALLS for program in case.workload()])
    for case in CALLS:
        for step in [step for program in case.workload() for step in program.steps]:
            assert step.answers is not None
            assert len(step.answers) == step.awaited
            assert {len(answers[len(step.frames) // step.awaited])} == {len(each) for each in step.answers}


@pytest.mark.parametrize("case", [*CALLS, *CONFIRMS], ids=lambda case: case.key)
def test_programs_hold_the_protocol(case: object) -> None:
    """The frames of every case are whole HCALLs, and each gets its HRETURN."""
    for program in case.workload():  # type: ignore[attr-defined]
        calls = [call for step in program.steps for call in frames(step.frames, Role.SERVER)]
        answers = [frames(each, Role.CLIENT) for step in program.steps for each in step.answers or ()]
        assert len(calls) == sum(step.awaited for step in program.steps) == len(answers)
        assert {type(call) for call in calls} == {HCall}
        assert {type(answer) for found in answers for answer in found} == {HReturn}


@pytest.mark.parametrize("waits", [True, False])
def test_a_confirmed_write_counts_once(waits: bool) -> None:
    """One operation is one request that removes the last object, writes the next and confirms it.

    If CONFIRM waits, its answer "flushed" ends the operation; else a poll ends it.
    """
    workload = (confirmed_writes if waits else polled_writes)(3)
    assert len({program.steps for program in workload}) == 3
    for program in workload:
        first, poll = program.steps
        assert [step.awaited for step in program.steps] == [3, 1]
        assert (first.units, poll.units) == (1, 1)
        assert first.flags == (START | END_IF if waits else START)
        assert poll.flags == POLL | END | LATER


def test_goals_are_judged_by_ratio_or_by_value() -> None:
    assert Goal(0.8).met(1.0, 0.8)
    assert not Goal(0.8).met(1000.0, 0.79)
    assert not Goal(0.8).met(1000.0)
    assert Goal(below=0.25).met(0.2)
    assert not Goal(below=0.25).met(0.25)
    assert Goal(most=1.5).met(9.0, 1.5)
    assert not Goal(most=1.5).met(0.1, 1.51)
    assert Goal(0.2, cpu=4.0).met(1.0, 0.2, 4.0)
    assert not Goal(0.2, cpu=4.0).met(1.0, 0.3, 4.1)
    assert not Goal(0.2, cpu=4.0).met(1.0, 0.3)
    assert str(Goal(0.2, cpu=4.0)) == "at least 0.2, CPU at most 4"


def test_ratios_are_those_of_one_round() -> None:
    """Both rates in a ratio are from the same round, so a slow round does not change the ratio."""
    ours, ceiling = (
        [Measured(rate, 1, 1, 1, 1, 0) for rate in rates] for rates in ([8, 24, 8], [10, 30, 10])
    )
    assert paired_ratio(ours, ceiling) == pytest.approx(0.8)


def test_work_counts_both_ends() -> None:
    """Work is the CPU time of both ends. So if the server's time doubles, the ratio is not halved."""
    ours, ceiling = [Measured(1, 1, 1, 20, 10, 0)], [Measured(1, 1, 1, 10, 10, 0)]
    assert work_ratio(ours, ceiling) == pytest.approx(20 / 30)


def frames(data: bytes, role: Role) -> list[object]:
    """Return the frames in `data`, as the session engine reads them in an open session."""
    session = at(role, SessionState.OPEN)
    if role is Role.CLIENT:
        session.send(CALL._replace(tag=int.from_bytes(data[8:12], "big")))
    session.receive_data(data)
    return list(session.events())


def test_the_seconds_of_a_demo() -> None:
    """The seconds of a demo are in its last line. If a check has failed, there are none."""
    assert seconds_of("a line\nall 121 checks held, 29 steps, 12.5 s\n") == 12.5
    with pytest.raises(RuntimeError, match="1 of 121 failed"):
        seconds_of("1 of 121 failed, 29 steps, 12.5 s\n")
