"""A command whose server is silent prints one line: the wait, and the way to stop it."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from swpks.cli import silence
from swpks.cli.main import main


@contextmanager
def silent_sockets(state: Path) -> Iterator[None]:
    """Listen as a server that is stopped: the kernel takes connections, and nobody answers."""
    run = state / "run"
    run.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as data, socket.socket(socket.AF_UNIX) as control:
        for each, name in ((data, "lpar1.sock"), (control, "control.sock")):
            each.bind(str(run / name))
            each.listen()
        yield


@pytest.mark.parametrize("words", ["lpar lpar1 ls", "hmc status"])
def test_a_stopped_server(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line comes once, long before the timeout, on standard error alone."""
    monkeypatch.setattr(silence, "SECONDS", 0.01)
    with silent_sockets(tmp_path):
        assert main([*words.split(), "--state", str(tmp_path), "--timeout", "0.3"]) == 3
    said = capsys.readouterr()
    first, *_ = said.err.splitlines()
    assert first.startswith(f"swpks {words}: waits for the server since 0.01 s, up to 0.3 s in each wait ")
    assert "(--timeout S); Ctrl-C stops waiting; a server that is stopped goes on" in first
    assert said.err.count("Ctrl-C") == 1
    assert said.out == ""


def test_a_quick_answer_and_a_slow_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wait for the command's own input is none for the server."""
    monkeypatch.setattr(silence, "SECONDS", 0.05)
    with silence.noticed("lpar lpar1 write", 10), silence.reading_input():
        time.sleep(0.12)
    assert capsys.readouterr().err == ""
