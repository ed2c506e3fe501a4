"""No core dump and no debugger of a server, unless the operator permits them (spec/service.md)."""

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
"""A start that the folder stops; then the dumpable flag (PR_GET_DUMPABLE) and the limit that it leaves."""


def left(folder: Path, *options: str) -> list[int]:
    """Flag and limits after a start that was refused before any key was read."""
    (folder / "thesis.tex").touch()
    command = [sys.executable, "-c", AFTER, "--state", str(folder), *options]
    # The limit that is inherited must not be 0 already.
    raised = ["sh", "-c", 'ulimit -S -c "$(ulimit -H -c)"; exec "$@"', "sh", *command]
    done = subprocess.run(raised, capture_output=True, text=True, check=True)
    return [int(word) for word in done.stdout.split()]


@pytest.mark.process
def test_dumps_and_debuggers_are_forbidden_before_a_key_is_read(tmp_path: Path) -> None:
    """R-42: the state folder is refused here, so no key was read; both are forbidden already."""
    assert left(tmp_path) == [0, 0, 0]


@pytest.mark.process
def test_the_operator_can_permit_them(tmp_path: Path) -> None:
    """By the option or the file: flag and limit are as they were inherited."""
    (tmp_path / "swpks.toml").write_text("debuggable = true")
    for options in (["--debuggable"], ["--config", str(tmp_path / "swpks.toml")]):
        dumpable, soft, hard = left(tmp_path, *options)
        assert dumpable == 1
        assert soft == hard


@pytest.mark.process
def test_a_server_that_runs_has_no_core_dump(tmp_path: Path) -> None:
    """The figures that anybody can read stay readable: benchmarks and monitors need them."""
    with served(tmp_path / "state") as server:
        process = Path(f"/proc/{server.ready['pid']}")
        limits = process.joinpath("limits").read_text("ascii")
        (core,) = (line for line in limits.splitlines() if line.startswith("Max core file size"))
        assert core.split()[4:6] == ["0", "0"]
        for name in ("cmdline", "stat", "statm", "status"):
            assert process.joinpath(name).read_bytes()
        assert server.stop() == 0
