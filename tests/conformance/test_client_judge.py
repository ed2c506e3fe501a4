"""The judge of clients: both clients of this project pass every case, and each faulty client fails one."""

from __future__ import annotations

import errno
import json
import os
import sys
import threading
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import pytest

from hcall_abi.rules.catalogue import RULES
from swpks.cli import pages
from swpks.cli.main import main
from swpks.conformance.case import Judgement
from swpks.conformance.client.blocking_adapter import BlockingAdapter
from swpks.conformance.client.cases import CLIENT_CASES
from swpks.conformance.client.dialogue import LineClient
from swpks.conformance.client.endpoint import ClientNotStarted, ProcessEndpoint
from swpks.conformance.client.run import ClientRun
from swpks.conformance.vectors import frames
from tests.conformance.bad_clients import BAD_CLIENTS, BadClient
from tests.conformance.judging_clients import PATIENCE, caught
from tests.conformance.page import shown
from tests.conformance.pipes import ThreadEndpoint

CAUGHT = {name: case.strip("`") for name, case in shown("clients")}
POOR = (
    "while read word rest; do case $word in begin) echo ready poor;; close) echo closed;; "
    "quit) exit;; *) echo unsupported no sockets;; esac; done"
)
"""A client without sockets."""
ADAPTER = f"{sys.executable} -m swpks.conformance.client.adapter --client"


@pytest.mark.usefixtures("not_measured")
@pytest.mark.parametrize("kind", ["blocking", "trio"])
def test_our_clients_pass_every_case(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With --require-all, both clients of this project pass every case."""
    assert main(["conformance", "client", "--exec", f"{ADAPTER} {kind}", "--require-all"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"client hcall_client {kind}"
    assert said[-1] == f"{len(CLIENT_CASES)} cases: {len(CLIENT_CASES)} passed"


@pytest.mark.parametrize("bad", BAD_CLIENTS, ids=[bad.name for bad in BAD_CLIENTS])
def test_each_faulty_client_is_caught(bad: BadClient) -> None:
    """R-80: each faulty client fails the case that docs/conformance.md names for it."""
    threads = threading.active_count()
    found = caught(bad)
    for thread in threading.enumerate()[threads:]:
        thread.join(5)
    assert threading.active_count() <= threads, "the thread of the client goes on"
    assert found, f"no case of {bad.only} catches: {bad.name}"
    assert CAUGHT[bad.name] == found.id
    assert found.reason
    assert found.dialogue


def test_a_mutant_for_each_chapter() -> None:
    """Each chapter has a faulty client that fails it."""
    assert len(BAD_CLIENTS) >= 25
    assert {case.chapter for case in CLIENT_CASES} == {bad.only.partition(".")[0] for bad in BAD_CLIENTS}


def test_the_client_of_the_mutants_is_right() -> None:
    """The client behind the faulty ones passes every case. So a faulty one fails only by its fault."""
    chosen = [case for case in CLIENT_CASES if case.id in ("open.fields", "call.change", "end.goodbye-3")]
    found = ClientRun(lambda: ThreadEndpoint(BlockingAdapter), PATIENCE).findings(chosen)
    assert [each.judgement for each in found] == [Judgement.PASSED] * 3


def test_cases_name_pages_and_rules_that_exist() -> None:
    """Each case has a unique id. The heading and the rule that it cites exist."""
    assert max(Counter(case.id for case in CLIENT_CASES).values()) == 1
    headings = {
        page: {section.anchor for section in pages.sections(page)}
        for page in {case.page.partition("#")[0] for case in CLIENT_CASES}
    }
    for case in CLIENT_CASES:
        page, _, heading = case.page.partition("#")
        assert heading in headings[page], case
        assert not case.rule or case.rule in RULES, case


def test_each_damaged_frame_for_a_client_has_a_case() -> None:
    """For every vector that a client must refuse, a case proves its rule."""
    names = ("header", "hello", "opened", "hreturn", "goodbye", "states")
    for vector in [each for name in names for each in frames(name)]:
        if vector.receiver == "client":
            assert any(case.rule == vector.rule_id for case in CLIENT_CASES), vector.name


def run_command(*words: str) -> int:
    """Run the command on the blocking client; return its exit status."""
    return main(["conformance", "client", "--exec", f"{ADAPTER} blocking", *words])


@pytest.mark.parametrize(
    "words,reason",
    [
        (["--only", "prof"], "--only prof: no case has such an id; did you mean proof?"),
        (["--only", "proof.*", "--only", "no.*"], "--only no.*: no case has such an id"),
        (["--xfail", "none"], "none: No such file or directory"),
        (["--json", "none/report"], "none/report: No such file or directory"),
        (["--junit", "."], ".: Is a directory"),
    ],
)
def test_wrong_words(
    words: list[str],
    reason: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A wrong option gives status 2 before a client is started."""
    monkeypatch.chdir(tmp_path)
    assert run_command(*words) == 2
    assert reason in capsys.readouterr().err


def test_a_pattern_of_xfail_that_fits_no_case(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """If a line of the --xfail file fits no case, the error names the line. Comments are skipped."""
    file = tmp_path / "expected"
    file.write_text("# a comment\nproof.*  # another\n\nopne.fields\n")
    assert run_command("--xfail", str(file)) == 2
    assert "no case has the id opne.fields" in capsys.readouterr().err
    file.write_bytes(b"\xff")
    assert run_command("--xfail", str(file)) == 2
    assert "this is no text in UTF-8" in capsys.readouterr().err


@pytest.mark.usefixtures("not_measured")
def test_the_files_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """If a case passes that is expected to fail, every report calls it a failure."""
    expected, report, junit = (tmp_path / name for name in ("expected", "report.json", "junit.xml"))
    expected.write_text("close.after-open\n")
    words = ["--only", "close", "--xfail", str(expected), "--json", str(report), "--junit", str(junit)]
    assert run_command(*words) == 1
    assert "PASSED UNEXPECTEDLY close.after-open" in capsys.readouterr().out
    results = {each["id"]: each["result"] for each in json.loads(report.read_bytes())["cases"]}
    assert results == {"close.after-open": "passed unexpectedly", "close.after-a-call": "passed"}
    suite = ET.fromstring(junit.read_bytes()).find("testsuite")
    assert suite is not None
    assert (suite.get("name"), suite.get("tests"), suite.get("failures")) == ("close", "2", "1")


@pytest.mark.usefixtures("not_measured")
def test_a_report_file_that_is_full_loses_no_other_form(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a report file cannot be written, the text and the other file are complete.

    The error follows on standard error, and the exit status is 2.
    """
    full, junit = str(tmp_path / "full"), tmp_path / "junit.xml"
    junit.touch()
    junit.chmod(0o644)

    def write(descriptor: int, data: bytes) -> int:
        if os.path.samestat(os.fstat(descriptor), Path(full).stat()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return really(descriptor, data)

    # Only the write of the report meets a full disk. `output` has opened the file before the run.
    really = os.write
    monkeypatch.setattr("swpks.cli.files.os.write", write)
    command = ["conformance", "client", "--exec", POOR, "--only", "close"]
    assert main([*command, "--json", full, "--junit", str(junit)]) == 2
    said = capsys.readouterr()
    assert said.out.splitlines()[-1] == "2 cases: 2 not run"
    assert f"swpks conformance client: {full}: No space left on device [" in said.err
    assert ET.fromstring(junit.read_bytes()).find("testsuite") is not None
    assert junit.stat().st_mode & 0o777 == 0o600
    assert main([*command, "--json", full, "--junit", full]) == 2
    said = capsys.readouterr()
    assert said.out.splitlines()[-1] == "2 cases: 2 not run"
    assert said.err.count(full) == 2


@pytest.mark.parametrize(
    "command,reason",
    [
        ("exit 7", "its exit status is 7"),
        ("kill -9 $$", "SIGKILL"),
        ("echo hello; exit 127", "came 'hello' (no line of the line protocol begins so)"),
        ("echo hello; read line", "came 'hello' (no line of the line protocol begins so)"),
        ("echo closed; read line", "is not `ready NAME`: closed"),
        ("read line; printf ready", "the end of the client behind 'ready'"),
    ],
)
@pytest.mark.usefixtures("not_measured")
def test_a_client_that_does_not_start(command: str, reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    """If the client does not start, the command gives status 3 and the reason."""
    assert main(["conformance", "client", "--exec", command]) == 3
    said = capsys.readouterr().err
    assert reason in said
    assert "rule conformance.client:" in said


@pytest.mark.parametrize(
    "command,reason",
    [
        (
            "exec 2>/dev/null; no-such-program",
            "is 127, by which the shell reports a program",
        ),
        (
            "exec 2>/dev/null; /dev/null",
            "is 126, by which the shell reports a file that",
        ),
    ],
)
def test_a_command_that_the_shell_cannot_run(
    command: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A command that is not found, or not executable, is a fault of the operator and not of the client."""
    assert main(["conformance", "client", "--exec", command]) == 2
    said = capsys.readouterr().err
    assert f"swpks conformance client: --exec: the exit status {reason}" in said
    assert "[operator fault; rule command.usage:" in said


@pytest.mark.usefixtures("not_measured")
def test_a_client_that_ends_is_started_again(capsys: pytest.CaptureFixture[str]) -> None:
    """If the client ends, each case reports how, and the next case starts it again."""
    script = "read begin; echo ready brief; read open; exit 3"
    assert main(["conformance", "client", "--exec", script, "--only", "close"]) == 1
    said = capsys.readouterr().out
    assert said.count("the end of the client: its exit status is 3") == 2
    assert said.splitlines()[-1] == "2 cases: 2 failed"


@pytest.mark.usefixtures("not_measured")
def test_a_client_that_hangs_is_killed() -> None:
    """If the client hangs, it is killed, and the next case starts a new process."""
    started: list[ProcessEndpoint] = []

    def start() -> ProcessEndpoint:
        started.append(ProcessEndpoint("read begin; echo ready stuck; exec sleep 60"))
        return started[-1]

    chosen = [case for case in CLIENT_CASES if case.chosen_by("close")]
    found = list(ClientRun(start, PATIENCE).findings(chosen))
    assert [each.reason for each in found] == ["expected a line; came nothing for 0.25 s"] * 2
    assert [each.fate() for each in started] == ["it was ended by SIGKILL"] * 2


def test_a_client_that_does_not_flush() -> None:
    """If no line comes, the error says that an adapter has to flush; after an end it does not."""
    with pytest.raises(ClientNotStarted, match=r"nothing for 0\.05 s; an adapter has to flush its output"):
        LineClient(lambda: ProcessEndpoint("exec sleep 60"), 0.05).begin()
    with pytest.raises(ClientNotStarted) as caught:
        LineClient(lambda: ProcessEndpoint("exit 1"), 5).begin()
    assert "flush" not in str(caught.value)


@pytest.mark.usefixtures("not_measured")
def test_a_client_that_is_always_silent_ends_the_run() -> None:
    """After three cases in a row without an answer, the run ends. The other cases are reported as not run.

    So the judge does not wait for its time limit in each case.
    """
    command = "read begin; echo ready mute; exec sleep 60"
    found = list(ClientRun(lambda: ProcessEndpoint(command), PATIENCE).findings(CLIENT_CASES))
    assert len(found) == len(CLIENT_CASES)
    assert [each.judgement for each in found[:3]] == [Judgement.FAILED] * 3
    assert {(each.judgement, each.reason) for each in found[3:]} == {
        (
            Judgement.NOT_RUN,
            "the run has ended early: the client let the judge wait 0.25 s in each of 3 cases in a row",
        )
    }


@pytest.mark.usefixtures("not_measured")
def test_a_function_that_the_client_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    """If the client lacks a function, its cases are not run, and the report gives the reason.

    With --require-all, the exit status is that of a failure.
    """
    words = ["conformance", "client", "--exec", POOR, "--only", "close"]
    assert main(words) == 0
    assert "not run, 2 cases: the client does not support this: no sockets" in capsys.readouterr().out
    assert main([*words, "--require-all"]) == 1


def test_a_client_that_floods_is_given_up(tmp_path: Path) -> None:
    """A client that never stops writing lines fails each case.

    The judge kills it, even if it ignores SIGTERM.
    """
    flood = tmp_path / "flood.py"
    flood.write_text(
        "import signal, sys\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "sys.stdin.readline()\n"
        "print('ready flood')\n"
        "while True: print('x' * 50)\n",
        "utf-8",
    )
    run = ClientRun(lambda: ProcessEndpoint(f"exec {sys.executable} {flood} 2>/dev/null"), 1.0)
    chosen = [case for case in CLIENT_CASES if case.id in ("open.fields", "call.change")]
    assert [each.judgement for each in run.findings(chosen)] == [Judgement.FAILED] * 2
