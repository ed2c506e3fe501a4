"""`swpks bench` with real servers and short runs. The figures are not checked: a test machine may be busy."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from xml.etree import ElementTree

import pytest

from hcall_abi.consumers import Consumer
from hcall_client.calls import (
    Authorization,
    get_config,
    get_object_labels,
    read_object,
    set_password,
    write_object,
)
from hcall_client.console import power_off
from swpks.bench.cases import CASES, MOST_SESSIONS, BenchCall, summary
from swpks.bench.clients import BenchClient
from swpks.bench.sessions import BenchSession
from swpks.bench.tenant import Tenant
from swpks.cli.main import main
from swpks.testing import ServerProcess

pytestmark = pytest.mark.process

SYSTEM = Authorization(Consumer.OPERATING_SYSTEM)
TINY = ("--seconds", "0.01")


@pytest.fixture
def server(tmp_path):
    """A server with a partition of 64 KiB that is not empty."""
    process = ServerProcess(tmp_path / "s").start()
    with process.connect_blocking() as channel:
        channel.call(write_object(SYSTEM, b"theirs", b"content"))
    yield process
    process.kill()


def picture(process: ServerProcess, who: Authorization = SYSTEM) -> tuple:
    """Return the state that the benchmark must leave unchanged."""
    with process.connect_blocking() as channel:
        used = channel.call(get_config()).used_space
        return used, channel.call(get_object_labels(who)).labels, channel.call(read_object(who, b"theirs"))


def bench(*arguments: str | Path) -> int:
    """Run the command in this process; return its exit status."""
    return main(["bench", *TINY, *map(str, arguments)])


def test_a_server_of_its_own(tmp_path, capsys) -> None:
    """R-13: without --socket the command starts a server.

    Its table, its JSON and its plot have every case.
    """
    output, drawn = tmp_path / "figures.json", tmp_path / "figures.svg"
    assert bench("--json", output, "--plot", drawn) == 0
    written = capsys.readouterr()
    document = json.loads(output.read_text())
    assert [each["key"] for each in document["figures"]] == [case.key for case in CASES]
    assert document["about"]["socket"] == "a server of its own"
    for case, figure in zip(CASES, document["figures"], strict=True):
        assert figure["per_second"] > 0
        assert 0 < figure["p50_us"] <= figure["p99_us"]
        assert 0 < figure["client_share"] <= 1.5
        assert (figure["sessions"], figure["in_flight"]) == (case.sessions, case.depth)
        assert re.search(rf"^{re.escape(case.title)} +[\d,]+/s ", written.out, re.MULTILINE)
    assert "clients are Python" in written.out
    assert written.err == ""
    texts = [each.text or "" for each in ElementTree.fromstring(drawn.read_bytes()).iter() if each.text]
    assert {case.title for case in CASES} <= set(texts)


def test_the_partition_stays_as_it_was(server, capsys) -> None:
    before = picture(server)
    assert bench("--socket", server.socket()) == 0
    assert picture(server) == before
    assert "READ 64 B, 16 sessions" in capsys.readouterr().out


def test_json_on_standard_output_is_json_alone(server, capsysbinary) -> None:
    assert bench("--socket", server.socket(), "--json", "-") == 0
    assert json.loads(capsysbinary.readouterr().out)["about"]["socket"] == str(server.socket())


def test_a_consumer_with_a_password(server, tmp_path, capsys) -> None:
    """If the consumer has a password, the command needs it. With the password, the run leaves nothing behind.

    Without the password, or if the consumer has none, the command writes nothing.
    """
    file = tmp_path / "password"
    file.write_bytes(b"the password of this IPL")
    assert bench("--socket", server.socket(), "--password-file", file) == 1
    output = capsys.readouterr().err
    assert "is not that of the operating system's consumer, which may have none" in output
    assert "has a password" not in output
    with server.connect_blocking() as channel:
        who = channel.call(set_password(Consumer.OPERATING_SYSTEM, file.read_bytes()))
    before = picture(server, who)
    assert bench("--socket", server.socket()) == 1
    assert "--password-file" in capsys.readouterr().err
    assert bench("--socket", server.socket(), "--password-file", file) == 0
    assert picture(server, who) == before


def test_too_little_room(tmp_path, capsys) -> None:
    """The error has the number of bytes that the store lacks, and nothing is written."""
    process = ServerProcess(tmp_path / "s", ["lpar1:4"]).start()
    try:
        assert bench("--socket", process.socket()) == 1
        assert re.search(r"4096 bytes free, and the benchmark needs \d+: ", capsys.readouterr().err)
        with process.connect_blocking() as channel:
            assert channel.call(get_config()).used_space == 0
    finally:
        process.kill()


@contextmanager
def running(process: ServerProcess) -> Iterator[subprocess.Popen]:
    """Start the command in a new process; yield that process during its first case."""
    opened = len(process.log_lines("session.opened"))
    command = [sys.executable, "-m", "swpks", "bench", "--seconds", "60", "--socket", str(process.socket())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        try:
            # Two sessions belong to the case: one client writes, the other is measured.
            process.log_lines("session.opened", least=opened + 2)
            yield child
        finally:
            child.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_removes_the_objects(server, number) -> None:
    before = picture(server)
    with running(server) as child:
        child.send_signal(number)
        out, err = child.communicate(timeout=60)
    assert (child.returncode, out, err) == (130, "", "")
    assert picture(server) == before


def test_calls_under_way_do_not_come_after_the_removal(server) -> None:
    """A run that ends while its calls are unanswered leaves no object."""
    before = picture(server)
    with Tenant(server.socket(), b"", 20.0) as tenant, ExitStack() as stack:
        for number in range(MOST_SESSIONS):
            session = stack.enter_context(BenchSession(server.socket(), 20.0))
            BenchClient(session, *tenant.requests(BenchCall.CONFIRMED, number)).begin()
    assert picture(server) == before


def test_a_power_off_in_the_middle(server) -> None:
    """If the partition is powered off during a run, the message says why, and that the objects remain."""
    with running(server) as child:
        server.console.call(power_off("lpar1"))
        _, err = child.communicate(timeout=60)
    assert child.returncode == 1
    assert "the session has ended" in err
    assert re.search(r"the objects swpks-bench-\w{8}-\* stay in the store", err)


@pytest.mark.parametrize(
    "arguments,status,output",
    [
        (["--socket", "nowhere.sock"], 3, "nothing listens at nowhere.sock"),
        (["--socket", "."], 3, ". is a folder; this command needs "),
        (["--seconds", "0"], 2, "'0' is no time"),
        (["--seconds", "soon"], 2, "'soon' is no time"),
        (["--seconds", "1e9"], 2, "'1e9' is no time"),
        (["--seconds", "nan"], 2, "'nan' is no time"),
        (["--json", "no/folder/x"], 2, "no/folder/x: No such file"),
        (["--plot", "."], 2, ".: Is a directory"),
        (["--password-file", "none"], 2, "none: No such file"),
        (["what"], 2, "unrecognized arguments: what"),
    ],
)
def test_wrong_inputs(tmp_path, monkeypatch, capsys, arguments, status, output) -> None:
    monkeypatch.chdir(tmp_path)
    found: list[object] = []
    try:
        found.append(main(["bench", *arguments]))
    except SystemExit as end:
        found.append(end.code)
    assert found == [status]
    assert output in capsys.readouterr().err


def test_a_full_disk_is_told_after_the_run(server, capsys) -> None:
    assert bench("--socket", server.socket(), "--json", "/dev/full") == 2
    assert "/dev/full: No space left on device" in capsys.readouterr().err


def test_the_figure_of_some_operations() -> None:
    """A rate counts calls. A latency is the time of a whole operation, which has several calls."""
    case = next(case for case in CASES if case.depth == 16)
    figure = summary(case, [0.003, 0.001, 0.002], 0.01, 0.004)
    assert figure == (case, 4800, 2000, 2000, 0.4)
