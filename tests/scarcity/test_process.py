"""A server process without free descriptors or threads refuses only the work that needs them."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from hcall_client.calls import confirm_object_flushed
from hcall_client.console import ConsoleRefused, power_off, power_on, show_health
from swpks.testing import ServerProcess
from tests.data_channel.support import OS, read, write
from tests.rules.process import told

pytestmark = pytest.mark.process

CRASHES = "Traceback (most recent call last)"


@contextmanager
def no_descriptors(server: ServerProcess) -> Iterator[None]:
    """Take every free descriptor of a running server during a block."""
    assert server.pid is not None
    before = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    taken = {int(each.name) for each in Path(f"/proc/{server.pid}/fd").iterdir()}
    lowest = next(n for n in range(len(taken) + 1) if n not in taken)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (lowest, before[1]))
    try:
        yield
    finally:
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, before)


def test_without_a_descriptor_a_verb_is_refused_whole(server: ServerProcess) -> None:
    """RLIMIT_NOFILE: power on and create are refused, and change nothing. Sessions and flushes go on."""
    server.partitions = ["alpha:64", "off:8"]
    # With this option the test may read the server's descriptors in /proc.
    server.options = ["--debuggable"]
    server.start()
    server.hmc("power", "off", "off")
    with _client(server) as client, server.connect_blocking("alpha") as session:
        system = client.get("/v1/system").json()
        files = _files(server)
        with no_descriptors(server):
            refused = client.post("/v1/partitions/off/power-on")
            assert (refused.status_code, refused.json()["rule_id"]) == (503, "scarce.descriptors")
            assert "ulimit -n" in refused.json()["detail"]
            refused = client.post("/v1/partitions", json={"name": "new"})
            assert (refused.status_code, refused.json()["rule_id"]) == (503, "scarce.descriptors")
            assert client.get("/v1/system").json() == system
            assert _files(server) == files
            session.call(write(b"label"))
            while not session.call(confirm_object_flushed(OS, b"label")).flushed:
                pass
            assert server.console.call(show_health()).ok
            server.console.call(power_off("alpha"))
        assert client.post("/v1/partitions/off/power-on").json()["power"] == "running"
        assert client.post("/v1/partitions", json={"name": "new"}).status_code == 201
    assert server.console.call(show_health()).ok
    assert server.stop() == 0
    assert CRASHES not in server.log


def _files(server: ServerProcess) -> list[str]:
    return sorted(str(each.relative_to(server.state)) for each in server.state.rglob("*"))


def test_the_first_request_without_a_descriptor(server: ServerProcess) -> None:
    """The server has descriptors in reserve for the console: for its HTTP modules, and for one connection.

    A second console waits until the first has gone. Guests are served meanwhile.
    """
    server.start()
    with server.connect_blocking("alpha") as session, no_descriptors(server):
        with _client(server) as first, socket.socket(socket.AF_UNIX) as second:
            assert first.get("/health").json()["ok"]
            second.settimeout(20)
            second.connect(str(server.control_socket))
            second.sendall(b"GET /health HTTP/1.1\r\nhost: swpks\r\n\r\n")
            assert first.get("/v1/system").is_success
            session.call(write(b"label"))
            first.close()
            assert second.recv(65536).startswith(b"HTTP/1.1 200")
        assert server.console.call(show_health()).ok
        assert session.call(read(b"label")).data == b"x"
    assert server.stop() == 0


@contextmanager
def starved(server: ServerProcess) -> Iterator[None]:
    """Leave few descriptors to a running server; guests take them, and further guests wait."""
    assert server.pid is not None
    before = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (48, before[1]))
    with ExitStack() as stack:
        for _ in range(60):
            guest = stack.enter_context(socket.socket(socket.AF_UNIX))
            guest.connect(str(server.socket("alpha")))
        server.log_lines("connection.not_accepted")
        yield
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, before)


def test_guests_that_wait_take_nothing_from_the_console(server: ServerProcess) -> None:
    """When the server frees descriptors to import modules for a console's request, no waiting guest gets one.

    The first request imports the HTTP modules, and the first request of metrics imports more.
    """
    server.start()
    with server.connect_blocking("beta") as session, starved(server), _client(server) as client:
        for path in ("/health", "/metrics"):
            assert client.get(path, timeout=20).status_code == 200
        assert server.console.call(show_health()).ok
        session.call(write(b"label"))
    assert server.stop() == 0
    assert "control.not_loaded" not in server.log


def _client(server: ServerProcess) -> httpx.Client:
    """Return a client that keeps its connection to the server open."""
    transport = httpx.HTTPTransport(uds=str(server.control_socket))
    return httpx.Client(transport=transport, base_url="http://swpks")


NO_THREAD = """
import sys, threading
allowed = int(sys.argv.pop(1))
start = threading.Thread.start
def starting(self):
    global allowed
    allowed -= 1
    if allowed < 0:
        raise RuntimeError("can't start new thread")
    start(self)
threading.Thread.start = starting
from swpks.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
"""The `swpks` command in a process that may start a given number of threads and no more."""


def huge_stacks() -> None:
    """Leave no memory for the stack of a thread. The kernel's error is that of RLIMIT_NPROC."""
    resource.setrlimit(resource.RLIMIT_STACK, (1 << 32, resource.getrlimit(resource.RLIMIT_STACK)[1]))
    resource.setrlimit(resource.RLIMIT_AS, (1 << 32, 1 << 32))


def few_descriptors() -> None:
    """Limit the number of descriptors so far that no server can start."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (8, 8))


# Coverage would need more descriptors than the limit allows.
@pytest.mark.usefixtures("not_measured")
@pytest.mark.parametrize(
    "before,rule",
    [(huge_stacks, "scarce.threads"), (few_descriptors, "scarce.descriptors")],
    ids=["threads", "descriptors"],
)
def test_a_start_without_it_is_explained(before: Callable[[], None], rule: str, tmp_path: Path) -> None:
    """A start without descriptors or threads ends with status 2, and one line with rule and advice.

    Later the state can be served.
    """
    command = [sys.executable, "-m", "swpks", "serve", "--state", str(tmp_path / "state")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, preexec_fn=before)
    assert (done.returncode, CRASHES in done.stderr) == (2, False), done.stderr
    assert told(done.stderr.splitlines()[-1]).id == rule
    server = ServerProcess(tmp_path / "state", ["a:8"]).start()
    assert server.stop() == 0


def test_a_console_without_a_thread_answers_503(tmp_path: Path) -> None:
    """If only NVRAM has a thread, guests are served, and the console gets status 503."""
    state = tmp_path / "state"
    reader, writer = os.pipe()
    command = ["-c", NO_THREAD, "1", "serve", "--state", str(state), "--partition", "a:8"]
    process = subprocess.Popen(
        [sys.executable, *command, "--ready-fd", str(writer)], pass_fds=[writer], stderr=subprocess.PIPE
    )
    try:
        os.close(writer)
        assert os.read(reader, 65536)
        os.close(reader)
        server = ServerProcess(state)
        for _ in range(2):
            with pytest.raises(ConsoleRefused) as refused:
                server.console.call(power_on("a"))
            assert (refused.value.problem.status, refused.value.rule.id) == (503, "scarce.threads")
        with server.connect_blocking("a") as session:
            session.call(write(b"label"))
    finally:
        process.terminate()
        log = process.communicate(timeout=20)[1].decode()
    assert (process.returncode, CRASHES in log) == (0, False)
