"""A real server process with its control channel over TCP: options, clients, and the end of the process."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import trio

from hcall_abi.control import PROBLEM_JSON
from hcall_abi.control_views import EventView
from hcall_client.console import Console, ConsoleUnreachable, power_off, show_system
from hcall_client.control_transport import TlsFiles, transport_to
from hcall_client.events import watch_events
from swpks.testing import ServerProcess
from tests.certificates import Authority
from tests.service.processes import serve

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def files(authority: Authority) -> TlsFiles:
    return authority.server()


@pytest.fixture(scope="module")
def client(authority: Authority) -> TlsFiles:
    return authority.client()


def options(files: TlsFiles, control: str = "tcp:127.0.0.1:0") -> list[str]:
    """Return the options of a server that is reached by TLS."""
    words = ["--control", control, "--tls-cert", files.cert, "--tls-key", files.key, "--tls-ca", files.ca]
    return list(map(str, words))


@pytest.fixture
def reached(server: ServerProcess, files: TlsFiles) -> ServerProcess:
    """A running server that is reached by TLS."""
    server.options = options(files)
    return server.start()


def client_context(client: TlsFiles) -> ssl.SSLContext:
    """Return the TLS context of a console, made as other programs make theirs.

    Certificates are checked strictly, as Python does by default from 3.13 on.
    """
    context = ssl.create_default_context(cafile=client.ca)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_cert_chain(client.cert, client.key)
    return context


@contextmanager
def connected(server: ServerProcess, client: TlsFiles) -> Iterator[ssl.SSLSocket]:
    """Return a connection after its handshake and one request."""
    host, _, port = server.ready["control_tcp"].rpartition(":")
    plain = socket.create_connection((host, int(port)), timeout=20)
    with client_context(client).wrap_socket(plain, server_hostname=host) as stream:
        stream.sendall(b"GET /v1/trusted-key HTTP/1.1\r\nhost: x\r\n\r\n")
        assert stream.recv(4096).startswith(b"HTTP/1.1 ")
        yield stream


@pytest.mark.parametrize("by_tls", [True, False], ids=["tls", "unix"])
async def test_events_of_a_real_server(reached: ServerProcess, client: TlsFiles, by_tls: bool) -> None:
    """Each change sends an event, and the last event reports the stop. A kill ends the stream at once."""
    path = str(reached.control_socket)
    transport = transport_to(f"https://{reached.ready['control_tcp']}" if by_tls else path, client)
    with trio.fail_after(20):
        async with watch_events(transport) as events:
            assert (await events.receive()).kind == "hello"
            await Console(transport).call(power_off("beta"))
            assert (await _about_beta(events)).kind == "changed"
            await trio.to_thread.run_sync(reached.stop)
            while (await events.receive()).kind != "stopping":
                pass
            with pytest.raises(ConsoleUnreachable, match="has ended"):
                await events.receive()
        reached.start()
        transport = transport_to(f"https://{reached.ready['control_tcp']}" if by_tls else path, client)
        async with watch_events(transport) as events:
            assert (await events.receive()).kind == "hello"
            reached.kill()
            with pytest.raises(ConsoleUnreachable):
                await events.receive()


async def _about_beta(events: trio.abc.ReceiveChannel[EventView]) -> EventView:
    while (event := await events.receive()).partition != "beta":
        pass
    return event


def ended(stream: ssl.SSLSocket) -> None:
    """Read to the end of the connection."""
    try:
        while stream.recv(4096):
            pass
    except ConnectionResetError:
        pass


async def test_a_console_over_tcp(reached: ServerProcess, client: TlsFiles) -> None:
    """R-30: every verb works as over the Unix socket, which the server also serves."""
    console = Console(transport_to(f"https://{reached.ready['control_tcp']}", client))
    assert [each.name for each in (await console.call(show_system())).partitions] == ["alpha", "beta"]
    assert (await console.call(power_off("beta"))).power == "off"
    assert reached.console.call(show_system()).partitions[1].power == "off"


def test_httpx_of_any_program(reached: ServerProcess, client: TlsFiles) -> None:
    """Any program with httpx gets the same answers as over the Unix socket. Physical presence has no verb."""
    base = f"https://{reached.ready['control_tcp']}"
    with httpx.Client(base_url=base, verify=client_context(client), timeout=20) as program:
        answer = program.get("/health")
        assert (answer.status_code, answer.json()["ok"]) == (200, True)
        verbs = program.get("/openapi.json").json()["paths"]
        assert not [path for path in verbs if "presence" in path or "erase" in path or "asmi" in path]
        assert program.post("/v1/erase").headers["content-type"] == PROBLEM_JSON


def test_the_end_of_a_server(reached: ServerProcess, client: TlsFiles, files: TlsFiles) -> None:
    """An open connection delays no stop. The log has addresses and no part of the key."""
    with connected(reached, client) as stream:
        assert reached.stop() == 0
        ended(stream)
    secret = files.key.read_text("ascii").splitlines()
    assert not any(line in reached.log for line in secret)
    assert reached.ready["control_tcp"] in reached.log


def test_a_killed_server(reached: ServerProcess, client: TlsFiles) -> None:
    """After a kill of the server, clients get an error at once.

    A new server on the same state accepts them again.
    """
    with connected(reached, client) as stream:
        reached.kill()
        ended(stream)
    reached.start()
    with connected(reached, client):
        assert reached.stop() == 0


def test_strangers_and_garbage(reached: ServerProcess, client: TlsFiles) -> None:
    """Plain HTTP, garbage and clients without a certificate are refused. The log has the address of each."""
    host, _, port = reached.ready["control_tcp"].rpartition(":")
    for data in (
        b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n",
        os.urandom(500),
        b"\x16\x03\x01\0\xff" * 60,
        b"",
    ):
        with socket.create_connection((host, int(port)), timeout=20) as plain:
            plain.sendall(data)
            plain.shutdown(socket.SHUT_WR)
            answer = b""
            try:
                while more := plain.recv(4096):
                    answer += more
            except ConnectionResetError:
                pass
            assert b"200" not in answer
    bare = ssl.create_default_context(cafile=client.ca)
    with (
        pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)),
        httpx.Client(base_url=f"https://{reached.ready['control_tcp']}", verify=bare, timeout=20) as program,
    ):
        program.get("/health")
    lines = reached.log_lines("control.handshake_failed", 5)
    assert all("tls.handshake" in line and "127.0.0.1:" in line for line in lines)
    with connected(reached, client):
        assert reached.stop() == 0


def test_the_openssl_command(reached: ServerProcess, client: TlsFiles) -> None:
    """`openssl s_client` with a certificate gets an answer. Without a certificate it is refused."""
    words = ["openssl", "s_client", "-connect", reached.ready["control_tcp"], "-CAfile", str(client.ca)]
    words += ["-verify_return_error", "-quiet"]
    request = b"GET /health HTTP/1.0\r\n\r\n"
    certificate = ["-cert", str(client.cert), "-key", str(client.key)]
    done = subprocess.run([*words, *certificate], input=request, capture_output=True, timeout=20, check=False)
    assert done.stdout.startswith(b"HTTP/1.1 200 "), done.stderr
    done = subprocess.run(words, input=request, capture_output=True, timeout=20, check=False)
    assert b"HTTP" not in done.stdout
    assert b"alert certificate required" in done.stderr.lower()


def test_the_commands_of_the_page(tmp_path: Path, server: ServerProcess) -> None:
    """The commands of spec/control.md make certificates that server and client accept."""
    page = (Path(__file__).resolve().parents[2] / "spec" / "control.md").read_text("utf-8")
    commands = page.split("```sh\n")[1].split("```")[0]
    subprocess.run(["sh", "-ec", commands], cwd=tmp_path, check=True, capture_output=True, timeout=20)
    names = TlsFiles(tmp_path / "server.pem", tmp_path / "server.key", tmp_path / "ca.pem")
    server.options = options(names)
    server.start()
    with connected(server, TlsFiles(tmp_path / "console.pem", tmp_path / "console.key", names.ca)):
        assert server.stop() == 0


def test_ipv6(server: ServerProcess, files: TlsFiles, client: TlsFiles) -> None:
    """The ready line has an IPv6 address in brackets, as in a URL."""
    server.options = options(files, "tcp:[::1]:0")
    address = server.start().ready["control_tcp"]
    assert address.startswith("[::1]:")
    with httpx.Client(base_url=f"https://{address}", verify=client_context(client), timeout=20) as program:
        assert program.get("/health").status_code == 200


def test_without_it_there_is_no_listener(server: ServerProcess) -> None:
    assert server.start().ready["control_tcp"] is None


def test_a_file_and_the_command_line(tmp_path: Path, server: ServerProcess, files: TlsFiles) -> None:
    """The configuration file may have some of the four options. The command line has priority."""
    config = tmp_path / "swpks.toml"
    names = ("tls_cert", "tls_key", "tls_ca")
    lines = [f'{name} = "{path}"' for name, path in zip(names, files, strict=True)]
    config.write_text("\n".join(['control = "tcp:192.0.2.1:1"', *lines]))
    server.options = ["--config", str(config), "--control", "tcp:localhost:0"]
    assert server.start().ready["control_tcp"].startswith(("127.0.0.1:", "[::1]:"))


def test_a_start_is_refused(tmp_path: Path, files: TlsFiles) -> None:
    """Wrong TLS options are refused with a rule, before the state is made.

    If the address is in use, the new state is removed.
    """
    state = tmp_path / "state"
    for words, rule in [
        (options(files)[:6], "tls.complete"),
        (options(files)[2:], "tls.complete"),
        (options(files, "tls:1"), "listen.form"),
        (options(files._replace(ca=tmp_path / "none")), "tls.files"),
    ]:
        done = serve("--state", str(state), "--partition", "a:4", *words)
        assert (done.returncode, f"rule {rule}:" in done.stderr) == (2, True), done.stderr
        assert not state.exists()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        words = options(files, f"tcp:127.0.0.1:{taken.getsockname()[1]}")
        done = serve("--state", str(state), "--partition", "a:4", *words)
    assert (done.returncode, "rule socket.address:" in done.stderr) == (2, True), done.stderr
    assert not state.exists()
