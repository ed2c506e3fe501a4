"""Accidents of a real server: its state is deleted, moved or replaced, or it is killed at an IPL."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hcall_client.blocking import BlockingChannel
from hcall_client.calls import confirm_object_flushed, read_object, write_object
from hcall_client.console import BlockingConsole, ipl, power_off, power_on, show_health
from swpks.testing import ServerProcess
from tests.faults.conftest import Serve
from tests.faults.damage import OS, logged
from tests.faults.test_nvram_trouble import flushed, until

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("not_measured")]

STORAGE = 3


def start(serve: Serve, tmp_path: Path) -> ServerProcess:
    """Start a server whose last flush at a stop lasts at most 0.2 seconds."""
    config = tmp_path / "swpks.toml"
    config.write_text("[limits]\ndrain_seconds = 0.2\n")
    server = serve(tmp_path / "state", ["lpar1:64"], ["--flush-delay", "1", "--config", str(config)])
    # The test removes the state, so the log is moved out of it.
    server.log_path = server.log_path.rename(tmp_path / "log")
    return server


@contextmanager
def confirmed(server: ServerProcess) -> Iterator[BlockingChannel]:
    """Return a session that has written an object, which is confirmed as flushed."""
    with server.connect_blocking() as channel:
        channel.call(write_object(OS, b"old", b"old data"))
        until(lambda: flushed(channel, b"old"))
        yield channel


def never_flushed(channel: BlockingChannel) -> None:
    """Write an object, and assert that a CONFIRM never reports it as flushed."""
    channel.call(write_object(OS, b"new", b"new data"))
    for _ in range(50):
        assert channel.call(confirm_object_flushed(OS, b"new")) == (False, True)
    assert channel.call(read_object(OS, b"new")).data == b"new data"


def demand_rule(server: ServerProcess) -> None:
    """Assert that the log names the rule, and that the server stops with the status of storage trouble."""
    trouble = logged(server, "nvram.trouble")[0]
    assert (trouble["rule_id"], trouble["fault"]) == ("nvram.place", "storage")
    assert trouble["section"] == "spec/service.md#files-in-place"
    assert server.stop() == STORAGE
    assert server.log.splitlines()[-1].startswith("swpks serve: not everything was flushed: NVRAM: ")


def unhealthy(console: BlockingConsole) -> None:
    """Assert that health and metrics show the trouble."""
    health = until(lambda: next((h for h in [console.call(show_health())] if not h.ok), None))
    assert health.writeback.state == "retrying"
    assert str(health.writeback.last_error) in health.reasons[0]
    remedy = "put it back; if it is deleted: stop the server, swpks hmc replace service-processor --state "
    assert remedy in health.reasons[0]


def replace(path: Path) -> None:
    """Move a file away, and put a copy in its place."""
    original = path.rename(path.with_name("elsewhere"))
    shutil.copy2(original, path)


ACCIDENTS: dict[str, Callable[[Path], object]] = {
    "state deleted": shutil.rmtree,
    "state renamed": lambda state: state.rename(state.with_name("elsewhere")),
    "database replaced": lambda state: replace(state / "service-processor" / "nvram.sqlite"),
    "log deleted": lambda state: (state / "service-processor" / "nvram.sqlite-wal").unlink(),
}


@pytest.mark.parametrize("accident", ACCIDENTS.values(), ids=ACCIDENTS)
def test_a_state_that_is_taken_away(serve: Serve, tmp_path: Path, accident: Callable[[Path], object]) -> None:
    """R-20, R-23: if the state is gone, the next change is not confirmed.

    Health, log and exit status say why.
    """
    server = start(serve, tmp_path)
    with confirmed(server) as channel:
        accident(server.state)
        never_flushed(channel)
        folder = next((each for each in (server.state, tmp_path / "elsewhere") if each.exists()), None)
        if folder:
            unhealthy(BlockingConsole(folder / "run" / "control.sock"))
        demand_rule(server)


def test_a_state_that_is_taken_away_after_its_last_commit(serve: Serve, tmp_path: Path) -> None:
    """R-20, R-23: if the state is gone, the server does not end with status 0, even if nothing is dirty."""
    server = start(serve, tmp_path)
    with confirmed(server):
        shutil.rmtree(server.state)
        assert server.stop() == STORAGE
    assert "rule nvram.place" in server.log.splitlines()[-1]


def test_a_state_that_is_put_back(serve: Serve, tmp_path: Path) -> None:
    """R-23: if the state is moved away and back, all later changes are stored there; nothing is lost."""
    server = start(serve, tmp_path)
    with confirmed(server) as channel:
        away = server.state.rename(tmp_path / "elsewhere")
        never_flushed(channel)
        away.rename(server.state)
        until(lambda: flushed(channel, b"new"))
    assert logged(server, "nvram.recovered")
    server.kill()
    server.start()
    with server.connect_blocking() as channel:
        assert [channel.call(read_object(OS, label)).data for label in (b"old", b"new")] == [
            b"old data",
            b"new data",
        ]


def test_a_kill_after_the_answer_never_repeats_an_ipl_count(serve: Serve, tmp_path: Path) -> None:
    """R-04, R-21: No two IPLs have the same number, even if a kill comes right after the answer or OPEN."""
    server = serve(tmp_path / "state", ["lpar1:64"], ["--flush-delay", "60000"])
    seen: list[int] = []

    def open_session() -> None:
        with server.connect_blocking() as channel:
            seen.append(channel.ipl_count)

    open_session()
    seen.append(server.console.call(ipl("lpar1")).ipl_count)
    server.kill()
    server.start()
    open_session()
    server.console.call(power_off("lpar1"))
    seen.append(server.console.call(power_on("lpar1")).ipl_count)
    server.kill()
    server.start()
    open_session()
    server.kill()
    server.start()
    open_session()
    assert seen == sorted(set(seen))
    assert len(seen) == 6
