"""The listener of the mobility channel in real server processes.

It is a socket or a TCP port, and a partition moves over each of them.
"""

from __future__ import annotations

import base64
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from hcall_abi import requests
from hcall_abi.consumers import Consumer
from hcall_abi.control_bodies import MigrationOrder
from hcall_client.calls import Authorization, read_object, set_password, write_object
from hcall_server.service.peers import SocketPeers
from swpks.testing import ServerProcess
from tests.service.processes import serve
from tests.service.test_console_link import until

pytestmark = pytest.mark.process

TOKEN = bytes(range(60, 92))
LINUX = Authorization(Consumer.OPERATING_SYSTEM, b"a password")


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[ServerProcess, ServerProcess]]:
    """A source with the partition lpar1, and an empty target. Neither is started yet."""
    made = ServerProcess(tmp_path / "a", ["lpar1:64"]), ServerProcess(tmp_path / "b", [])
    yield made
    for each in made:
        each.kill()


def test_the_default_is_a_private_socket(server: ServerProcess) -> None:
    """R-51: The default is a socket with mode 0600, which the ready line names and a stop removes.

    A peer without a valid greeting changes nothing.
    """
    path = server.folder / "run" / "mobility.sock"
    assert server.start().ready["mobility"] == f"unix:{path}"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for sent in (b"", b"\0", b"GET / HTTP/1.1\r\n\r\n", bytes(200)):
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.settimeout(20)
            stranger.connect(str(path))
            stranger.sendall(sent)
            stranger.shutdown(socket.SHUT_WR)
            assert stranger.recv(10) == b""
    server.log_lines("migration.refused")  # the line may come after the end of the connection
    assert server.stop() == 0
    assert not path.exists()


def test_a_port_is_told(server: ServerProcess) -> None:
    """R-51: With port 0 the server listens at a free port, which the ready line reports."""
    server.options = ["--mobility", "tcp:127.0.0.1:0"]
    address = server.start().ready["mobility"]
    host, _, port = address.removeprefix("tcp:").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as stranger:
        stranger.shutdown(socket.SHUT_WR)
        assert stranger.recv(10) == b""
    assert not (server.folder / "run" / "mobility.sock").exists()


def test_a_wrong_address_is_refused(tmp_path: Path) -> None:
    """R-51: A wrong address is refused with its rule, and no server starts."""
    for wrong in ("127.0.0.1:0", "unix:/tmp/x", "tcp:host"):
        done = serve("--state", str(tmp_path / "s"), "--mobility", wrong)
        assert done.returncode == 2
        assert "listen.form" in done.stderr + done.stdout


def test_a_long_path_has_no_socket(tmp_path: Path) -> None:
    """R-51: If the path is too long, or a partition has its name, the system has no mobility socket."""
    long = tmp_path / ("x" * 100)
    assert SocketPeers(long, "unix").address == ""
    assert SocketPeers(tmp_path, "unix", taken=True).address == ""
    assert repr(SocketPeers(long, "unix")) == "SocketPeers(does not listen)"


def ordered(servers: tuple[ServerProcess, ServerProcess], epoch: int = 1) -> str:
    """Order a migration at both ends as a console does; return the UUID of the partition."""
    source, target = (each.console for each in servers)
    ids = [each.call(requests.show_system()).system_id for each in (source, target)]
    uuid = source.call(requests.show_partition("lpar1")).uuid
    address = target.call(requests.expect_partition(uuid, epoch, ids[0], TOKEN)).address
    order = MigrationOrder(uuid=uuid, epoch=epoch, target_id=ids[1], address=address, token=TOKEN)
    source.call(requests.begin_migration("lpar1", order))
    return uuid


def custody(server: ServerProcess) -> list[str]:
    """Return the custody of all partitions that a system shows."""
    return [each.custody for each in server.console.call(requests.show_system()).custody]


@pytest.mark.parametrize("way", ["unix", "tcp:localhost:0"])
def test_a_partition_moves_between_processes(servers: tuple[ServerProcess, ServerProcess], way: str) -> None:
    """R-51: A partition moves with password and object and without an IPL.

    Its old socket is removed for good.
    """
    source, target = servers
    target.options = ["--mobility", way]
    for each in servers:
        each.start()
    with source.connect_blocking() as channel:
        channel.call(set_password(Consumer.OPERATING_SYSTEM, LINUX.password))
        channel.call(write_object(LINUX, b"label", b"data"))
        ordered(servers)
        until(lambda: custody(source) == ["gone"])
        assert custody(target) == ["arrived"]
    with target.connect_blocking() as channel:
        assert channel.call(read_object(LINUX, b"label")).data == b"data"
    assert target.console.call(requests.show_partition("lpar1")).ipl_count == 1
    assert not (source.folder / "run" / "lpar1.sock").exists()
    source.restart()
    assert not (source.folder / "run" / "lpar1.sock").exists()
    for each in servers:
        assert base64.b64encode(TOKEN).decode() not in each.log
        assert TOKEN.hex() not in each.log
