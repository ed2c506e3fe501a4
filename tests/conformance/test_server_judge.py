"""The judge of servers, run on `swpks serve` and on programs that are no right server (R-80)."""

from __future__ import annotations

import json
import random
import shlex
import socket
import sys
import threading
import time
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import starmap
from pathlib import Path
from unittest import mock

import pytest

from hcall_abi.calls import Opcode
from hcall_abi.codec import encode
from hcall_abi.frames import Hello, HReturn, Write
from hcall_abi.levels import KEYSTORE_LEVELS, LEVELS
from hcall_abi.statuses import REGISTERS
from swpks.cli.main import main
from swpks.conformance.case import Deviation, Finding, Judgement
from swpks.conformance.report import Suite, as_text
from swpks.conformance.server.answers import checked
from swpks.conformance.server.chapters import all_cases
from swpks.conformance.server.connection import RawConnection, ServerPlace
from swpks.conformance.server.draft import Draft
from swpks.conformance.server.judged import Judged
from swpks.conformance.server.plan import Run, facts_of
from swpks.testing import ServerProcess
from tests.conformance.judging import UPDATES
from tests.conformance.judging import server as in_process

pytestmark = pytest.mark.usefixtures("not_measured")

LARGEST = {name: level.max_kbytes for name, level in LEVELS.items()}
SAMPLE = 0.2
OTHERS = [name for name in KEYSTORE_LEVELS if name not in ("FW950", "NEXT")]


@contextmanager
def serve(folder: Path, level: str, kbytes: int | None = None) -> Iterator[ServerProcess]:
    """Run a server with one partition at a Unix socket and over TCP.

    By default, the partition has the largest size of the level.
    """
    takes_updates = "SIGNED_UPDATE" in {each.name for each in LEVELS[level].calls}
    more = "".join(f",{name}={value}" for name, value in UPDATES.items()) if takes_updates else ""
    size = LARGEST[level] if kbytes is None else kbytes
    options = ["--firmware", level, "--listen", "tcp:127.0.0.1:0"]
    server = ServerProcess(folder, [f"lpar1:{size}{more}"], options).start()
    try:
        yield server
    finally:
        server.stop()


def judge(server: ServerProcess, *words: str) -> int:
    """Run the command on the partition's Unix socket."""
    return main(["conformance", "server", "--connect", f"unix:{server.socket()}", *words])


def restart(server: ServerProcess) -> str:
    """Return the shell command that restarts the partition."""
    return shlex.join([sys.executable, "-m", "swpks", "hmc", "--state", str(server.state), "ipl", "lpar1"])


@pytest.mark.parametrize("level", ["FW950", "NEXT"])
def test_swpks_passes_every_case_over_a_unix_socket(level, tmp_path, capsys) -> None:
    """R-80: swpks passes all cases of the oldest and newest keystore level, with IPLs.

    Only the cases about proofs are not run, because they need TCP.
    """
    with serve(tmp_path / "state", level) as server:
        key = str(server.state / "access-keys" / "lpar1.key")
        assert judge(server, "--ipl", restart(server), "--access-key-file", key) == 0
    shown = capsys.readouterr().out
    assert "failed" not in shown
    assert "ipl           " in shown


@pytest.mark.parametrize("level", ["FW950", "NEXT"])
def test_swpks_passes_every_case_over_tcp(level, tmp_path, capsys) -> None:
    """Over TCP with the access key, only the cases that need an IPL are not run."""
    with serve(tmp_path / "state", level) as server:
        key = str(server.state / "access-keys" / "lpar1.key")
        words = ["--connect", f"tcp:{server.ready['tcp'][0]}", "--access-key-file", key, "--json", "-"]
        assert main(["conformance", "server", *words]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["counts"]["failed"] == 0
    left_out = {each["chapter"] for each in report["cases"] if each["result"] == "not run"}
    assert left_out <= {"ipl", "limits", "order"}


@pytest.mark.parametrize("level", OTHERS)
def test_swpks_passes_a_sample_of_every_other_level(level, tmp_path) -> None:
    """Each other level passes a fifth of its cases, chosen by its name; `make soak` runs all of them."""
    with serve(tmp_path / "state", level) as server:
        place = ServerPlace(str(server.socket()))
        facts = facts_of(place)
        cases = [each for each in all_cases(facts) if random.Random(level + each.id).random() < SAMPLE]
        found = list(Run(Judged(place, facts)).findings(cases))
    assert [each for each in found if each.judgement is Judgement.FAILED] == []
    assert len(found) > 100


def test_a_level_without_a_keystore_has_frames_and_h_function_only(tmp_path, capsys) -> None:
    """At FW940, which has no keystore, every call returns H_FUNCTION."""
    with serve(tmp_path / "state", "FW940", 0) as server:
        assert judge(server) == 0
    shown = capsys.readouterr().out
    assert "arguments" not in shown
    assert "frames" in shown


def test_reports_exit_statuses_and_expected_failures(tmp_path, capsys) -> None:
    """The options --only, --xfail, --require-all, --json and --junit work, with every exit status but 3."""
    expected = tmp_path / "known.txt"
    expected.write_text("# known\nlimits.config-flags  # until the next firmware\n", "utf-8")
    junit, report = tmp_path / "report.xml", tmp_path / "report.json"
    with serve(tmp_path / "state", "FW1060") as server:
        # The partition has FW1060, and the judge is asked for FW1110.
        words = ["--level", "FW1110", "--only", "limits", "--only", "opening.level"]
        assert judge(server, *words, "--json", str(report), "--junit", str(junit)) == 1
        shown = capsys.readouterr().out
        assert "FAILED limits.config-flags: expected flags of 0x10 in the config block of FW1110" in shown
        assert "see spec/structures.md#config-block" in shown
        assert (
            judge(server, "--level", "FW1110", "--only", "limits.config-flags", "--xfail", str(expected)) == 0
        )
        assert judge(server, "--only", "limits.config-flags", "--xfail", str(expected)) == 1
        assert "PASSED UNEXPECTEDLY limits.config-flags" in capsys.readouterr().out
        assert judge(server, "--only", "ipl.*") == 0
        assert judge(server, "--only", "ipl.*", "--require-all") == 1
        assert judge(server, "--only", "nothing.at.all") == 2
        assert judge(server, "--xfail", str(tmp_path / "none")) == 2
        assert judge(server, "--ipl", "exit 7", "--only", "ipl") == 2
    capsys.readouterr()
    failed = [each for each in json.loads(report.read_bytes())["cases"] if each["result"] == "failed"]
    root = ET.parse(junit).getroot()
    assert {each["id"] for each in failed} == {
        test.get("name") for test in root.iter("testcase") if test.find("failure") is not None
    }
    assert all(each["page"] and each["reason"] and isinstance(each["dialogue"], list) for each in failed)


def test_a_partition_that_is_in_use_is_not_judged(tmp_path, capsys) -> None:
    """If the partition has an object or a password, it is refused before any case (conformance.partition)."""
    with serve(tmp_path / "state", "FW1110") as server:
        server.run("lpar", "lpar1", "write", "a label", data=b"data").check_returncode()
        assert judge(server) == 2
        assert "use a new partition" in capsys.readouterr().err


Answer = Callable[[socket.socket], None]


@pytest.fixture
def foreign(tmp_path) -> Iterator[Callable[[Answer], str]]:
    """A function that makes a socket at which `answer` handles one connection; it returns the address."""
    listener = socket.socket(socket.AF_UNIX)
    path = tmp_path / "foreign.sock"
    listener.bind(str(path))
    listener.listen()
    threads: list[threading.Thread] = []

    def serve_one(answer: Answer) -> str:
        def run() -> None:
            connection, _ = listener.accept()
            with connection:
                answer(connection)

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        return f"unix:{path}"

    yield serve_one
    for thread in threads:
        thread.join(10)
    listener.close()


def later_version(connection: socket.socket) -> None:
    """Offer only the versions 2 and 3, then wait until the judge closes the connection."""
    connection.sendall(encode(Hello(2, 3, 262144, 0, bytes(32), "later")))
    connection.recv(1)


def web_server(connection: socket.socket) -> None:
    """Answer as a web server does."""
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def silent(connection: socket.socket) -> None:
    """Send nothing until the judge closes the connection."""
    connection.recv(1)


@pytest.mark.parametrize(
    "answer, reason",
    [
        (lambda connection: None, "the end of the stream; is it a socket of the data channel"),
        (later_version, "the server speaks versions 2 to 3, and these cases are for version 1"),
        (web_server, "expected a right frame header"),
        (silent, "nothing within 0.2 s; a server sends HELLO at once"),
    ],
    ids=["closes at once", "another version", "a web server", "never answers"],
)
def test_a_foreign_server_explains_itself(answer, reason, foreign, capsys, monkeypatch) -> None:
    """If no session can be opened, the command gives status 3 and the reason (conformance.session)."""
    monkeypatch.setattr("swpks.cli.conformance_server.PATIENCE", 0.2)
    assert main(["conformance", "server", "--connect", foreign(answer)]) == 3
    shown = capsys.readouterr()
    assert reason in shown.err
    assert "rule conformance.session" in shown.err
    assert shown.out == ""


@pytest.mark.parametrize(
    "words, status, reason",
    [
        (["--connect", "lab/run/lpar1.sock"], 2, "neither unix:PATH nor tcp:HOST:PORT"),
        (["--connect", "tcp:127.0.0.1:9"], 2, "--access-key-file DIR/access-keys/NAME.key"),
        (["--connect", "unix:/nowhere/x.sock"], 3, "/nowhere/x.sock"),
        (["--connect", "unix:x", "--level", "FW9"], 2, "FW950"),
        (["--connect", "unix:x", "--partition", "x"], 2, "no partition id"),
        (["--connect", "unix:x", "--access-key-file", "/nowhere"], 2, "/nowhere"),
        (["--connect", "unix:x", "--access-key-file", "/dev/null"], 2, "no access key"),
    ],
)
def test_wrong_words_are_explained(words, status, reason, capsys) -> None:
    """A wrong command line gives status 2. An address without a server gives status 3."""
    assert main(["conformance", "server", *words]) == status
    assert reason in capsys.readouterr().err


def dying(partition, answers: int) -> ServerPlace:
    """Return the place of a server that refuses connections after a number of them."""
    left = iter(range(answers))

    def dial() -> socket.socket:
        if next(left, None) is None:
            raise ConnectionRefusedError(111, "Connection refused")
        return partition.locate()

    return ServerPlace("in this process", patience=0.2, dial=dial)


def test_a_server_that_dies_leaves_a_finding_for_every_case() -> None:
    """If the server ends, the report still has a finding for each case."""
    with in_process() as partition:
        facts = facts_of(ServerPlace("in this process", dial=partition.locate))
        cases = all_cases(facts)
        found = list(Run(Judged(dying(partition, 60), facts), lambda: None).findings(cases))
    assert {each.id for each in found} == {each.id for each in cases}
    reasons = Counter(each.judgement for each in found)
    assert all(reasons[each] for each in (Judgement.PASSED, Judgement.FAILED, Judgement.NOT_RUN))


def test_an_ipl_command_that_fails_loses_no_report(tmp_path, capsys) -> None:
    """If the IPL command fails, the status is 2. The text and the files have the cases that were run."""
    report = tmp_path / "report.json"
    with serve(tmp_path / "state", "FW1110") as server:
        words = ["--only", "ipl", "--only", "opening.level", "--ipl", "exit 7"]
        assert judge(server, *words, "--json", str(report)) == 2
        assert judge(server, "--only", "opening.level", "--json", "-", "--junit", "-") == 2
    shown = capsys.readouterr()
    assert "--ipl: the command ended with 7" in shown.out
    assert "--ipl: the command ended with 7" in shown.err
    assert "only one of them can be standard output" in shown.err
    assert json.loads(report.read_bytes())["counts"]["passed"] == 1


def test_a_server_that_trickles_is_given_up(foreign, capsys, monkeypatch) -> None:
    """A slow server does not stop the judge: the time limit is for a whole frame, not for each byte."""

    def trickle(connection: socket.socket) -> None:
        try:
            for each in encode(Hello(1, 1, 262144, 0, bytes(32), "slow")):
                connection.sendall(bytes([each]))
                time.sleep(0.1)
        except OSError:
            pass  # The judge has closed the connection.

    monkeypatch.setattr("swpks.cli.conformance_server.PATIENCE", 0.3)
    began = time.monotonic()
    assert main(["conformance", "server", "--connect", foreign(trickle)]) == 3
    assert time.monotonic() - began < 3
    assert "bytes within 0.3 s" in capsys.readouterr().err


def test_bytes_behind_a_gap_or_elsewhere_are_a_deviation() -> None:
    """A result must begin at the start of the output buffer, and have no gap."""
    draft = Draft.of(Opcode.GET_CONFIG, config=64)
    call, start = draft.frame(2), draft.registers["config"]
    for writes in (((start, b"a"), (start + 8, b"b")), ((start + 1, b"a"),)):
        with pytest.raises(Deviation, match="the next written byte at"):
            checked(draft, call, HReturn(2, 0, (0,) * REGISTERS, tuple(starmap(Write, writes))))
    pieces = (Write(start + 1, b"b"), Write(start, b"a"))
    assert checked(draft, call, HReturn(2, 0, (0,) * REGISTERS, pieces)).written == b"ab"


@pytest.mark.parametrize("max_body", [0, 100, 0xFFFF_FFFF])
def test_no_largest_body_stops_the_judge(max_body) -> None:
    """An absurd largest body in HELLO fails a case, and costs the judge no memory."""
    with in_process() as partition:
        place = ServerPlace("in this process", dial=partition.locate)
        facts = facts_of(place)
        odd = replace(facts, hello=facts.hello._replace(max_body=max_body))
        cases = [
            each for each in all_cases(odd) if each.id in ("frames.largest-body", "frames.body-above-hello")
        ]
        found = list(Run(Judged(place, odd)).findings(cases))
    assert [each.judgement for each in found] == [Judgement.FAILED] * 2


def test_the_text_has_no_control_character() -> None:
    """The names and reasons that a judged program sends are printed without control characters."""
    bad = Finding("a.b", "page", "", Judgement.FAILED, "\x1b[31m", ("\x07",))
    skipped = Finding("a.c", "page", "", Judgement.NOT_RUN, "\x1b[32m")
    assert all(line.isprintable() for line in as_text(Suite("\x1b]0;name", [bad, skipped])))


def test_a_path_without_utf_8_is_reported(tmp_path, capsys) -> None:
    """If a socket's path is no UTF-8, the JSON report has replacement characters in it."""
    odd = tmp_path / "x\udcff.sock"
    with serve(tmp_path / "state", "FW1110") as server:
        odd.symlink_to(server.socket())
        words = ["--connect", f"unix:{odd}", "--only", "opening.level", "--json", "-"]
        assert main(["conformance", "server", *words]) == 0
    assert "\N{REPLACEMENT CHARACTER}.sock" in json.loads(capsys.readouterr().out)["subject"]


def test_a_server_of_small_objects_needs_no_large_body() -> None:
    """The largest body must have room for the largest object of this level, not of other levels."""
    with in_process("FW950") as partition:
        place = ServerPlace("in this process", dial=partition.locate)
        facts = facts_of(place)
        (case,) = (each for each in all_cases(facts) if each.id == "opening.room-for-objects")
        least = facts.largest_object + 1024
        for max_body, right in ((least, Judgement.PASSED), (least - 1, Judgement.FAILED)):
            with mock.patch.object(
                RawConnection, "hello", lambda _, m=max_body: facts.hello._replace(max_body=m)
            ):
                (found,) = Run(Judged(place, facts)).findings([case])
            assert found.judgement is right
