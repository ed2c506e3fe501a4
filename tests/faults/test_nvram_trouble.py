"""A real server whose NVRAM can't be written: it serves on, reports the trouble, and recovers by itself.

The tests make writes fail in two ways. A limit on the size of files, set on the running process, works on
every machine. A full file system needs a machine where the test may mount one.
"""

from __future__ import annotations

import contextlib
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from hcall_abi.control_views import HealthView
from hcall_client.blocking import BlockingChannel
from hcall_client.calls import confirm_object_flushed, read_object, remove_object, write_object
from hcall_client.console import show_health
from swpks.testing import ServerFailed, ServerProcess
from tests.faults.conftest import Serve
from tests.faults.damage import OS, logged

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("not_measured")]

PATIENCE = 20.0
"""Seconds for an event that takes milliseconds on an idle machine."""
UNLIMITED = resource.RLIM_INFINITY
STORAGE = 3


def until(what: Callable[[], Any]) -> Any:
    """Call the function until its result is true; return the result."""
    deadline = time.monotonic() + PATIENCE
    while not (answer := what()):
        assert time.monotonic() < deadline, "the condition never became true"
    return answer


def flushed(channel: BlockingChannel, label: bytes) -> bool:
    return channel.call(confirm_object_flushed(OS, label)).flushed


def forbid_growth(server: ServerProcess) -> None:
    """Limit the size of the server's files to the present size of its log of commits."""
    size = (server.state / "service-processor" / "nvram.sqlite-wal").stat().st_size
    assert server.pid is not None
    assert len(server.log) < size, "its own log can still be written"
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (size, UNLIMITED))


def allow_growth(server: ServerProcess) -> None:
    assert server.pid is not None
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (UNLIMITED, UNLIMITED))


def fill_log(channel: BlockingChannel) -> None:
    """Make the log of commits larger than any other file that the server writes."""
    for n in range(6):
        channel.call(write_object(OS, b"%d" % n, bytes(20_000)))
        until(lambda n=n: flushed(channel, b"%d" % n))  # type: ignore[misc]
        channel.call(remove_object(OS, b"%d" % n))
    channel.call(write_object(OS, b"old", b"old data"))
    until(lambda: flushed(channel, b"old"))


def in_trouble(server: ServerProcess) -> HealthView | None:
    """Return the health page if it shows trouble and more than one failed commit, else None."""
    health = server.console.call(show_health())
    return health if not health.ok and health.writeback.failures > 1 else None


def health_status(server: ServerProcess) -> int:
    """Return the HTTP status of the health page; some clients read only this."""
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(server.control_socket))) as client:
        return client.get("http://swpks/health").status_code


def stays_honest(server: ServerProcess, channel: BlockingChannel) -> None:
    """Assert that calls work during the trouble, memory has every object, and no change is confirmed."""
    channel.call(write_object(OS, b"new", b"new data"))
    channel.call(remove_object(OS, b"old"))
    health = until(lambda: in_trouble(server))
    assert health_status(server) == 503
    assert health.writeback.state == "retrying"
    assert health.writeback.last_error in health.reasons[0]
    for _ in range(50):
        assert channel.call(confirm_object_flushed(OS, b"new")) == (False, True)
        assert channel.call(confirm_object_flushed(OS, b"old")) == (False, True)
    assert channel.call(read_object(OS, b"new")).data == b"new data"
    with server.connect_blocking() as another:
        assert another.call(read_object(OS, b"new")).data == b"new data"


def recovers(server: ServerProcess, channel: BlockingChannel) -> None:
    """Assert that everything is flushed once NVRAM works again, without a command of the operator."""
    until(lambda: flushed(channel, b"new"))
    assert channel.call(confirm_object_flushed(OS, b"old")) == (True, False)
    health = server.console.call(show_health())
    assert (health.ok, health.writeback.last_error) == (True, None)
    assert health_status(server) == 200
    assert "healthy" in server.hmc("health")
    assert logged(server, "nvram.recovered")


def test_files_that_may_not_grow(serve: Serve, tmp_path: Path) -> None:
    """R-20, R-21, R-23: log, health and the status of `swpks hmc health` show the trouble.

    Nothing is lost.
    """
    server = serve(tmp_path / "state", ["lpar1:64"], ["--flush-delay", "1"])
    with server.connect_blocking() as channel:
        fill_log(channel)
        forbid_growth(server)
        stays_honest(server, channel)
        with pytest.raises(ServerFailed, match="hmc health"):
            server.hmc("health")
        (trouble, *_) = logged(server, "nvram.trouble")
        assert (trouble["kind"], trouble["fault"]) == ("io", "storage")
        allow_growth(server)
        recovers(server, channel)
    server.kill()
    server.start()
    with server.connect_blocking() as channel:
        assert channel.call(read_object(OS, b"new")).data == b"new data"
        assert channel.call(confirm_object_flushed(OS, b"old")) == (True, False)


def test_sigterm_while_nvram_refuses(serve: Serve, tmp_path: Path) -> None:
    """R-21, R-22, R-23: after SIGTERM the server retries for a while.

    Then it reports that changes are lost.
    """
    config = tmp_path / "swpks.toml"
    config.write_text("[limits]\ndrain_seconds = 0.3\n")
    server = serve(tmp_path / "state", ["lpar1:64"], ["--flush-delay", "1", "--config", str(config)])
    with server.connect_blocking() as channel:
        fill_log(channel)
        forbid_growth(server)
        stays_honest(server, channel)
        assert server.stop() == STORAGE
    last = server.log.splitlines()[-1]
    assert last.startswith("swpks serve: not everything was flushed: NVRAM: ")
    assert "spec/service.md#stopping" in last
    server.start()
    with server.connect_blocking() as channel:
        assert channel.call(read_object(OS, b"old")).data == b"old data"
        assert channel.call(confirm_object_flushed(OS, b"new")) == (True, False)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 600 KiB, mounted for the test."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=600k,mode=0700", "swpks-test", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file system may be mounted here; the limit on file sizes is tested all the same")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Fill the free space of a file system."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return filler


def test_a_full_disk(disk: Path, tmp_path: Path) -> None:
    """R-20 to R-23: the disk is full at run time, then at a start. When it has space again, all is flushed.

    A partition that starts on a full disk does not run yet: its IPL count must become durable first.
    """
    server = ServerProcess(disk / "state", ["lpar1:64"], ["--flush-delay", "1"])
    server.log_path = tmp_path / "log"
    try:
        server.start()
        with server.connect_blocking() as channel:
            channel.call(write_object(OS, b"old", b"old data"))
            until(lambda: flushed(channel, b"old"))
            filler = fill(disk)
            channel.call(write_object(OS, b"large", bytes(40_000)))
            stays_honest(server, channel)
            assert logged(server, "nvram.trouble")[0]["kind"] == "full"
            filler.unlink()
            recovers(server, channel)
        assert server.stop() == 0
        fill(disk)
        server.start()
        assert server.ready["running"] == []
        assert "lpar1: it starts as soon as" in "".join(server.console.call(show_health()).reasons)
        filler.unlink()
        until(lambda: server.console.call(show_health()).running)
        with server.connect_blocking() as channel:
            assert channel.call(read_object(OS, b"new")).data == b"new data"
        assert server.stop() == 0
    finally:
        server.kill()
