"""The small client, with consoles that follow the protocol or break it."""

from __future__ import annotations

import os
import select as selecting
import subprocess
import sys
import threading
from typing import Any

import pytest

from swpks.hmc import line_client
from tests.hmc.fake import Message, run


def test_what_the_console_says_is_printed(fake, capfdbinary) -> None:
    """The client prints the console's text on standard output and has its exit status."""
    assert run(fake, ["lshmc", "-V"], {"say": "one\ntwo"}, {"exit": 1}) == 1
    assert capfdbinary.readouterr() == (b"one\ntwo\n", b"")
    assert fake.heard == [{"line": ["lshmc", "-V"]}]


@pytest.mark.parametrize(
    "message",
    [b"garbage\n", b"[]\n", b'{"half": ', b"", b'{"other": 1}\n', b'{"progress": 1}\n', b"[" * 9999 + b"\n"],
)
def test_a_console_that_does_not_speak_is_told_of(fake, capfdbinary, message) -> None:
    """After an invalid message the client prints one line on standard error and has status 1."""
    assert run(fake, ["lshmc"], message) == 1
    reported = capfdbinary.readouterr()
    assert reported.out == b""
    assert reported.err.startswith(b"lshmc: ")
    assert reported.err.count(b"\n") == 1


@pytest.mark.parametrize("status", [-1, 256, None, "0"])
def test_a_status_that_is_none_is_a_failure(fake, status) -> None:
    """An invalid exit status of the console gives status 1."""
    assert run(fake, ["lshmc"], {"exit": status}) == 1


def test_a_message_without_end_is_not_kept(fake, capfdbinary, monkeypatch) -> None:
    """A message without an end is refused above a limit, so the client's memory is bounded."""
    monkeypatch.setattr(line_client, "LONGEST_LINE", 1000)
    assert run(fake, ["lshmc"], b"x" * 2000) == 1
    assert b"without end" in capfdbinary.readouterr().err


def test_without_a_console_a_line_says_so(tmp_path, capfdbinary) -> None:
    """If no console serves the store, the error names the store and the command that starts it."""
    store = str(tmp_path / "store")
    assert line_client.line(["lshmc"], store) == 1
    reported = capfdbinary.readouterr().err.decode()
    assert f"no console serves {store}" in reported
    assert f"swpks hmc serve --store {store}" in reported


def test_words_that_are_not_utf8_are_refused(tmp_path, capfdbinary) -> None:
    """Words that are not UTF-8 are refused, because the messages are JSON."""
    assert line_client.line(["lshmc", "\udcff"], str(tmp_path)) == 1
    assert b"is not UTF-8" in capfdbinary.readouterr().err


def jobs(*steps: tuple[int, str, list[str]], total: int = 4) -> list[Message]:
    """Return messages of a console about the progress of a job."""
    fields = {"number": 7, "kind": "recover", "system": "sys1", "total": total, "waiting": ""}
    return [{**fields, "done": done, "state": state, "lines": lines} for done, state, lines in steps]


def shown(*, terminal: bool) -> tuple[line_client.Shown, list[str]]:
    """Return an output on a terminal or in a pipe, and the text that was written to it."""
    written: list[str] = []
    return line_client.Shown(written.append, terminal=terminal), written


STEPS = jobs((0, "running", []), (1, "running", ["a"]), (1, "running", ["a"]), (4, "done", ["a", "b"]))


def test_in_a_pipe_progress_is_lines() -> None:
    """In a pipe, each line of the job and each step is printed once."""
    output, written = shown(terminal=False)
    for step in STEPS:
        output.progress(step)
    head = "job 7 (recover sys1)"
    assert "".join(written).splitlines() == [
        f"{head}: running, 0 of 4",
        "a",
        f"{head}: running, 1 of 4",
        "b",
        f"{head}: done, 4 of 4",
    ]


def test_on_a_terminal_progress_is_a_bar() -> None:
    """On a terminal, the bar is removed before anything else is printed."""
    output, written = shown(terminal=True)
    for step in STEPS[:-1]:
        output.progress(step)
    assert written[-1].endswith("[######..................] 1/4")
    output.progress(STEPS[-1])
    assert written[-3:] == ["\r\x1b[K", "b\n", "job 7 (recover sys1): done, 4 of 4\n"]


def test_a_waiting_job_tells_for_what() -> None:
    """While a job waits, its reason is printed. On a terminal too, because the bar does not move."""
    output, written = shown(terminal=True)
    output.progress({**STEPS[0], "waiting": "sys1 is away"})
    assert written == ["job 7 (recover sys1): running, 0 of 4, waits: sys1 is away\n"]


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("redirection", [">&-", ">/dev/full", ">&${gone}"])
@pytest.mark.process
def test_output_that_is_not_taken(fake, number, redirection) -> None:
    """If the output is closed, full or unread, there is no traceback. Lost output is no success."""
    reader, writer = os.pipe()
    os.close(reader)
    script = f'gone={writer}; exec "$@" {number}{redirection}'
    code = "import sys; from swpks.hmc import line_client as c; c.STORE = sys.argv[1]; del sys.argv[1]"
    program = [sys.executable, "-c", f"{code}; sys.exit(c.main())", str(fake.store)]
    messages = [{"say": "text"}, {"exit": 0}] if number == 1 else [b"garbage\n"]
    with fake.saying(*messages):
        done = subprocess.run(
            ["bash", "-c", script, "bash", *program],
            capture_output=True,
            check=False,
            timeout=60,
            pass_fds=[writer],
        )
    os.close(writer)
    assert b"Traceback" not in done.stdout + done.stderr
    lost = redirection != ">&-"
    assert done.returncode == (1 if number == 2 or lost else 0)
    assert (b"standard output" in done.stderr) == (number == 1 and redirection == ">/dev/full")


@pytest.mark.process
def test_only_the_library_of_python_is_loaded() -> None:
    """The links load only modules of Python's library, and none of the slow ones."""
    unwanted = {"msgspec", "httpx", "trio", "argparse", "hcall_abi", "swpks", "pathlib", "asyncio"}
    source = line_client.__file__
    code = f"import sys, runpy; runpy.run_path({source!r}, run_name='client'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-IS", "-c", code], capture_output=True, text=True, check=True)
    assert not {name.split(".")[0] for name in done.stdout.split()} & unwanted


EVIL = "\x1b]0;PWN\x07\x1b[2J\x9b31m\r\u202e"
HARMLESS = r"\x1b]0;PWN\x07\x1b[2J\x9b31m\r\u202e"


def test_a_console_does_not_steer_the_terminal(fake, capfdbinary) -> None:
    """Control characters from the console are escaped.

    A text keeps its newlines and tabs. In a value of a job they are escaped too.
    """
    job = {**STEPS[0], "kind": EVIL, "lines": [f"a\n{EVIL}"], "waiting": f"b\n{EVIL}"}
    assert run(fake, ["lshmc"], {"say": f"c\n\t{EVIL}"}, {"progress": job}, {"exit": 0}) == 0
    assert capfdbinary.readouterr().out.decode().splitlines() == [
        "c",
        f"\t{HARMLESS}",
        rf"a\n{HARMLESS}",
        rf"job 7 ({HARMLESS} sys1): running, 0 of 4, waits: b\n{HARMLESS}",
    ]


def test_a_bar_is_escaped_as_well() -> None:
    """Control characters in a bar are escaped. Only the sequence that clears the bar is the client's."""
    output, written = shown(terminal=True)
    output.progress({**STEPS[0], "system": EVIL})
    assert written[0].startswith(f"\r\x1b[Kjob 7 (recover {HARMLESS}) [")


def test_a_silent_console_is_told_once(fake, capfdbinary, monkeypatch) -> None:
    """If the console is silent for some time, the client prints one message and goes on waiting.

    After the first byte of an answer it prints none.
    """
    monkeypatch.setattr(line_client, "SILENCE", 0.05)
    said = threading.Event()
    waits = selecting.select

    def select(*arguments: Any) -> Any:
        found = waits(*arguments)
        said.set()
        return found

    monkeypatch.setattr(selecting, "select", select)
    with fake.saying({"say": "late"}, {"exit": 0}, after=said):
        assert line_client.line(["lshmc", "-V"], str(fake.store)) == 0
    reported = capfdbinary.readouterr()
    assert reported.out == b"late\n"
    assert reported.err.decode() == (
        f"the console of {fake.store} is silent since 0.05 s; "
        "this command waits on: Ctrl-C ends it, and no job\n"
    )
