"""A server goes on if standard output or the log is full, closed, unread, or can't encode its text."""

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hcall_client.errors import SessionEnded
from hcall_server.machine import logs
from hcall_server.service import server as server_module
from swpks.cli import streams
from swpks.cli.main import main
from tests.data_channel.support import read, write
from tests.service.processes import REDIRECTED, Served, served

SMALL = 4096
"""Bytes in the smallest pipe."""


def serves(server: Served) -> bool:
    """Return whether the partition answers and the server stops cleanly."""
    with server.connect() as channel:
        channel.call(write(b"label"))
    return server.stop() == 0


def small_pipe() -> tuple[int, int]:
    """A pipe with room for one page."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, SMALL)
    return reader, writer


@pytest.mark.process
def test_output_that_is_full_in_an_encoding_that_is_too_small(tmp_path: Path) -> None:
    """If standard output is full, the ready line is lost, and the log has a warning.

    If the log's encoding lacks a letter of the state's path, the log has an escape in its place.
    """
    options = ("--log-format", "console")
    ascii_only = os.environ | {"PYTHONIOENCODING": "ascii"}
    with (
        (tmp_path / "log").open("wb") as log,
        served(tmp_path / "état", *options, streams="1>/dev/full", stderr=log, env=ascii_only) as server,
    ):
        assert serves(server)
    printed = (tmp_path / "log").read_text("ascii")
    assert "ready.undelivered" in printed
    assert r"\xe9tat/run/alpha.sock" in printed
    assert "Traceback" not in printed


@pytest.mark.process
def test_streams_without_a_reader(tmp_path: Path) -> None:
    """If no process reads the streams, each line fails with EPIPE, and the server goes on."""
    reader, writer = os.pipe()
    os.close(reader)
    with served(tmp_path / "state", stdout=writer, stderr=writer) as server:
        os.close(writer)
        assert serves(server)


@pytest.mark.process
def test_a_log_that_nobody_reads_does_not_stop_the_server(tmp_path: Path) -> None:
    """R-03: If no process reads the log, the server goes on, counts lost lines, and logs the gap."""
    reader, writer = small_pipe()
    # One partition alone may not write enough lines, so there are five more.
    others = [f"lpar{n}" for n in range(5)]
    options = [word for name in others for word in ("--partition", f"{name}:4")]
    with served(tmp_path / "state", *options, stderr=writer) as server:
        os.close(writer)
        for name in ["alpha", *others]:
            for _ in range(300):
                # This session costs little work and writes the longest possible line.
                server.connect("\x01" * 255, name).close()
        assert server.metric("swpks_log_lines_dropped_total")
        with os.fdopen(reader, "rb") as log:
            dropped = next(line for line in map(json.loads, log) if line["event"] == "log.dropped")
            assert dropped["lines"] > 0
            server.process.send_signal(signal.SIGTERM)
            assert "server.stopped" in [json.loads(line)["event"] for line in log]
        assert server.process.wait(20) == 0


@pytest.mark.process
def test_a_stop_does_not_wait_for_the_reader_of_the_log(tmp_path: Path) -> None:
    """R-20: A stop does not wait for the log: everything is flushed, the status is 0, and lines are lost."""
    reader, writer = small_pipe()
    os.write(writer, bytes(SMALL))
    with served(tmp_path / "state", "--flush-delay", "60000", stderr=writer) as server:
        os.close(writer)
        with server.connect() as channel:
            channel.call(write(b"label"))
            assert server.stop() == 0
            with pytest.raises(SessionEnded):
                channel.call(read(b"label"))
    os.close(reader)


def test_a_crash_is_a_line_of_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A crash is logged as a line. A traceback of Python would wait for its reader, with the state locked."""

    def crash(*_: object, **options: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(server_module, "run", crash)
    try:
        assert main(["serve", "--debuggable", "--state", str(tmp_path / "state")]) == 1
    finally:
        logs.configure(level="warning")
    line = json.loads(capfd.readouterr().err)
    assert (line["event"], line["level"]) == ("server.crashed", "error")
    assert line["exception"].endswith("RuntimeError: a bug")


def test_the_last_words_do_not_wait_for_their_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a usage error the process ends, whether or not its text is read."""
    monkeypatch.setattr(streams, "PATIENCE", 0.01)
    reader, writer = small_pipe()
    os.write(writer, bytes(SMALL))
    with os.fdopen(writer, "w") as unread:
        monkeypatch.setattr("sys.stderr", unread)
        streams.complain("the state folder is not empty")
        monkeypatch.undo()
        os.close(reader)


@pytest.mark.process
@pytest.mark.parametrize(
    "streams,status,said",
    [
        ("1>/dev/full", 2, b"rule stream.output: "),
        ("1>&-", 0, b""),
        ("2>/dev/full", 0, b""),
    ],
)
def test_a_command_whose_output_is_refused(streams: str, status: int, said: bytes) -> None:
    """If the help text can't be written, the command reports that. A closed stream is no error."""
    done = run(streams, "hmc", "--help")
    assert done.returncode == status
    assert said in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.process
@pytest.mark.parametrize("words", [["--help"], ["--version"], ["hmc", "status", "--help"]], ids=" ".join)
def test_help_on_a_full_output_is_no_success(words: list[str]) -> None:
    """Help on a full output gives status 2, with and without a buffer. argparse itself ignores the error."""
    for buffered in (True, False):
        done = run("1>/dev/full", *words, buffered=buffered)
        assert done.returncode == 2
        assert re.match(
            rb"swpks[a-z ]*: standard output: No space left on device \[operator fault", done.stderr
        )


@pytest.mark.process
def test_a_usage_that_nobody_reads() -> None:
    """A usage error has its usual exit status, although its text is lost."""
    assert run("2>/dev/full", "hmc", "--nonsense").returncode == 2


@pytest.mark.process
def test_commands_do_not_blame_the_server_for_their_output(tmp_path: Path) -> None:
    """A command reports a full disk as an error of its output.

    If its reader has gone, it ends without a message.
    """
    reader, unread = os.pipe()
    os.close(reader)
    with served(tmp_path / "state") as server:
        for command in (("hmc", "--state", str(server.state), "status"), lpar(server, "config")):
            full = run("1>/dev/full", *command)
            assert full.returncode == 2
            assert re.match(
                rb"swpks[a-z ]*: standard output: No space left on device \[operator fault", full.stderr
            )
            left = run("", *command, stdout=unread)
            assert (left.returncode, left.stderr) == (1, b"")
    os.close(unread)


def lpar(server: Served, *words: str) -> tuple[str, ...]:
    """Return a command of the server's partition."""
    return ("lpar", "--state", str(server.state), "alpha", *words)


def run(
    streams: str, *words: str, stdout: int = subprocess.PIPE, buffered: bool = True
) -> subprocess.CompletedProcess[bytes]:
    """Run a command with other streams and buffered output, as most users have it."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    unbuffered = [] if buffered else ["-u"]
    command = [
        "sh",
        "-c",
        REDIRECTED.format(streams),
        "sh",
        sys.executable,
        *unbuffered,
        "-m",
        "swpks",
        *words,
    ]
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, env=environment, check=False)
