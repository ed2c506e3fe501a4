"""A server forbids core dumps and debuggers, unless the operator permits them (spec/service.md)."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.service.processes import served

AFTER = """
import ctypes, resource, sys
from swpks.cli.main import main
assert main(["serve", *sys.argv[1:]]) == 2
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), *resource.getrlimit(resource.RLIMIT_CORE))
"""
"""A start that the folder's error ends. It prints the dumpable flag (PR_GET_DUMPABLE) and the core limits."""


def left(folder: Path, *options: str) -> list[int]:
    """Run a start that fails before it reads a key; return the flag and the limits that it has set."""
    (folder / "thesis.tex").touch()
    command = [sys.executable, "-c", AFTER, "--state", str(folder), *options]
    # The shell raises the inherited limit. If the limit were 0 already, the test could not see that the start
    # sets it to 0.
    raised = ["sh", "-c", 'ulimit -S -c "$(ulimit -H -c)"; exec "$@"', "sh", *command]
    done = subprocess.run(raised, capture_output=True, text=True, check=True)
    return [int(word) for word in done.stdout.split()]


@pytest.mark.process
def test_dumps_and_debuggers_are_forbidden_before_a_key_is_read(tmp_path: Path) -> None:
    """R-42: The start fails at the state folder, before it reads a key.

    By then dumps and debuggers are forbidden.
    """
    assert left(tmp_path) == [0, 0, 0]


@pytest.mark.process
def test_the_operator_can_permit_them(tmp_path: Path) -> None:
    """If an option or the file permits dumps, flag and limit stay as inherited."""
    (tmp_path / "swpks.toml").write_text("debuggable = true")
    for options in (["--debuggable"], ["--config", str(tmp_path / "swpks.toml")]):
        dumpable, soft, hard = left(tmp_path, *options)
        assert dumpable == 1
        assert soft == hard


@pytest.mark.process
def test_a_server_that_runs_has_no_core_dump(tmp_path: Path) -> None:
    """The process has no core dump, but its public figures in /proc are readable for monitors."""
    with served(tmp_path / "state") as server:
        process = Path(f"/proc/{server.ready['pid']}")
        limits = process.joinpath("limits").read_text("ascii")
        (core,) = (line for line in limits.splitlines() if line.startswith("Max core file size"))
        assert core.split()[4:6] == ["0", "0"]
        for name in ("cmdline", "stat", "statm", "status"):
            assert process.joinpath(name).read_bytes()
        assert server.stop() == 0
