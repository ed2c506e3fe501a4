"""The cleanup after a process: it does nothing while the process runs, then ends and removes everything."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from pathlib import Path

import pytest
import trio

from swpks.qemu import cleanup
from swpks.qemu.cleanup import Cleanup
from swpks.qemu.race import first_of

pytestmark = pytest.mark.process

SLEEP = ("sleep", "1000")
STUBBORN = ("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1000; done")


def _kept(folder: Path, *processes: subprocess.Popen[bytes]) -> None:
    """Order the end of these processes and the removal of the folder; wait until both are done."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    thread = threading.Thread(target=cleanup.clean_up, args=(theirs,))
    with theirs:
        with ours:
            mine = object.__new__(Cleanup)
            mine._socket = ours
            for process in processes:
                mine.end_process(process.pid)
            mine.remove_folder(folder)
            thread.start()
        thread.join()


def test_processes_and_folders_are_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that ignores SIGTERM is killed. One that has ended already is no error."""
    monkeypatch.setattr(cleanup, "END_SECONDS", 0.3)
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    with (
        subprocess.Popen(SLEEP) as sleeping,
        subprocess.Popen(STUBBORN, stdout=subprocess.PIPE, start_new_session=True) as stubborn,
        subprocess.Popen(["true"]) as ended,
    ):
        assert stubborn.stdout is not None
        assert stubborn.stdout.readline() == b"ready\n"
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        _kept(folder, sleeping, stubborn, ended)
        assert (sleeping.wait(), stubborn.wait()) == (-15, -9)
        # This kill ends the `sleep` that the stubborn shell has started.
        os.killpg(stubborn.pid, 9)
    assert not folder.exists()


def test_nothing_is_left_to_do_after_an_orderly_end(tmp_path: Path) -> None:
    with Cleanup() as mine, subprocess.Popen(SLEEP) as sleeping:
        mine.end_process(sleeping.pid)
        mine.remove_folder(tmp_path / "gone")
        sleeping.kill()
        sleeping.wait()
    assert mine._process.returncode == 0


async def test_the_first_task_decides() -> None:
    """`first_of` returns the result or raises the error of the first task, and cancels the others."""

    async def fail() -> str:
        raise LookupError("first")

    async def forever() -> str:
        await trio.sleep_forever()
        raise AssertionError

    async def result() -> str:
        await trio.lowlevel.checkpoint()
        return "result"

    assert await first_of(forever, result) == "result"
    with pytest.raises(LookupError, match="first"):
        await first_of(forever, fail)
    with trio.move_on_after(0) as scope:
        await first_of(forever)
    assert scope.cancelled_caught
