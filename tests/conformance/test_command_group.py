"""The commands of a judge leave no program behind, and an IPL command has a time limit."""

from __future__ import annotations

import os
import select
import time
from pathlib import Path

import pytest

from hcall_abi.errors import OperatorError
from swpks.cli.main import main
from swpks.conformance.client.endpoint import ProcessEndpoint
from swpks.conformance.server.plan import ipl_by

pytestmark = pytest.mark.usefixtures("not_measured")


def pid_in(path: Path) -> int:
    """Return the process id in a file that a command has written."""
    return int(path.read_text("utf-8"))


def ends(pid: int) -> bool:
    """Wait for the end of a process, 5 seconds at most."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], 5)[0])
    finally:
        os.close(descriptor)


def test_an_ipl_command_that_hangs_is_ended(tmp_path: Path) -> None:
    """An IPL command that hangs is ended together with the children of its shell.

    The error names the command and the limit.
    """
    command = f"sleep 600 & echo $! >{tmp_path}/pid; wait"
    began = time.monotonic()
    with pytest.raises(OperatorError) as caught:
        ipl_by(command, 0.3)()
    assert time.monotonic() - began < 5
    assert f"not ended within 0.3 s, and was ended: {command}; for more time: --ipl" in str(caught.value)
    assert ends(pid_in(tmp_path / "pid"))


def test_an_ipl_command_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """If an IPL command fails, the child that its shell has left is ended."""
    with pytest.raises(OperatorError, match="the command ended with 7"):
        ipl_by(f"sleep 600 >/dev/null 2>&1 & echo $! >{tmp_path}/pid; exit 7", 60)()
    assert ends(pid_in(tmp_path / "pid"))


def test_an_ipl_command_may_start_the_server(tmp_path: Path) -> None:
    """A server that an IPL command starts in the background goes on after the IPL."""
    os.mkfifo(tmp_path / "end")
    ipl_by(f"(read line <{tmp_path}/end) >/dev/null 2>&1 & echo $! >{tmp_path}/pid", 60)()
    # The open waits for a reader. It returns because the background process reads the FIFO.
    with (tmp_path / "end").open("w", encoding="utf-8") as end:
        pid = pid_in(tmp_path / "pid")
        end.write("end\n")
    assert ends(pid)


@pytest.mark.parametrize("kill", [True, False])
def test_a_client_that_outlives_its_shell_is_ended(tmp_path: Path, *, kill: bool) -> None:
    """If the shell of a client has ended before its child, the child is ended too."""
    endpoint = ProcessEndpoint(f"sleep 600 & echo $! >{tmp_path}/pid; exit 3")
    assert endpoint.fate() == "its exit status is 3"
    pid = pid_in(tmp_path / "pid")
    endpoint.end(kill=kill)
    assert ends(pid)
    assert endpoint.fate() == "its exit status is 3"


@pytest.mark.parametrize("limit", ["0", "nan", "x", "1e9"])
def test_a_wrong_limit(limit: str, capsys: pytest.CaptureFixture[str]) -> None:
    """For a wrong time limit the command ends with status 2, before it connects."""
    assert main(["conformance", "server", "--connect", "unix:x", "--ipl-timeout", limit]) == 2
    assert "is no time for an IPL: above 0, at most 86400 s" in capsys.readouterr().err
