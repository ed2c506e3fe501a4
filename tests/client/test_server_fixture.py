"""The fixture that starts a real server process.

The tests use both channels of its real sockets, kill the process and restart it.
"""

import signal
from pathlib import Path

import pytest

from hcall_client.calls import Authorization, confirm_object_flushed, gen_password, read_object, write_object
from hcall_client.errors import SessionEnded
from hcall_client.guests.boot import boot
from hcall_client.guests.kernel import Name
from swpks.testing import ConsoleProcess, ServerFailed, ServerProcess, short_path

pytestmark = pytest.mark.process

OS = Authorization(3)
KEY = Name("sed-opal", "disk")


def test_a_real_server_and_the_blocking_channel(swpks_server):
    """R-07: Over the real socket an object is written and read, also by many calls in a pipeline."""
    with swpks_server.connect_blocking() as channel:
        channel.call(write_object(OS, b"x", b"data"))
        assert channel.call(read_object(OS, b"x")).data == b"data"
        results = channel.pipeline([read_object(OS, b"x")] * 200)
        assert {result.data for result in results} == {b"data"}
    assert swpks_server.ready
    assert str(swpks_server.pid) in repr(swpks_server)


async def test_what_was_confirmed_survives_kill(swpks_server):
    """R-21: After SIGKILL an object exists if the kernel's write had returned. R-04: No password is set."""
    async with swpks_server.connect() as channel:
        chain = await boot(channel)
        await chain.kernel.write(KEY, b"disk key")
        swpks_server.kill()
        await channel.wait_ended()
    assert swpks_server.pid is None
    swpks_server.start()
    async with swpks_server.connect() as channel:
        chain = await boot(channel)
        assert (await chain.kernel.read(KEY)).data == b"disk key"
        assert await chain.kernel.dynamic_keys()


def test_stop_flushes_and_says_goodbye(swpks_server):
    """R-20: an orderly stop also flushes unconfirmed changes."""
    channel = swpks_server.connect_blocking()
    channel.call(write_object(OS, b"x", b"data"))
    assert swpks_server.stop() == 0
    with pytest.raises(SessionEnded, match="stopping"):
        channel.call(read_object(OS, b"x"))
    channel.close()
    swpks_server.restart()
    with swpks_server.connect_blocking() as channel:
        assert channel.call(confirm_object_flushed(OS, b"x")) == (True, True)
    swpks_server.restart()


def test_an_ipl_by_the_console(swpks_server):
    """R-04: If the console restarts the partition, its session gets GOODBYE 2, and no password is set."""
    channel = swpks_server.connect_blocking()
    made = channel.call(gen_password(3, 64))
    channel.call(write_object(made, b"x", b"data"))
    swpks_server.ipl()
    with pytest.raises(SessionEnded, match="IPL or power-off"):
        channel.call(read_object(made, b"x"))
    channel.close()
    with swpks_server.connect_blocking() as channel:
        assert channel.call(read_object(OS, b"x")).data == b"data"
    assert "lpar1" in swpks_server.hmc("status")
    with pytest.raises(ServerFailed, match="ipl nobody"):
        swpks_server.ipl("nobody")


@pytest.mark.swpks_server(partitions=["a:4", "b:8"], options=["--firmware", "FW950"])
def test_a_mark_says_how_it_is_started(swpks_server):
    """R-01, R-74: The mark sets two partitions and their firmware level; each partition has its own store."""
    with swpks_server.connect_blocking("a") as a, swpks_server.connect_blocking("b") as b:
        assert (a.limits().total_size, b.limits().total_size, a.level) == (4096, 8192, "FW950")
        a.call(write_object(OS, b"x", b"a's"))
        b.call(write_object(OS, b"x", b"b's"))
        assert a.call(read_object(OS, b"x")).data == b"a's"


@pytest.mark.swpks_server(options=["--listen", "tcp:127.0.0.1:0"])
def test_the_command_line_against_the_same_state(swpks_server):
    """`run` gives a command the state folder in SWPKS_STATE, so the command reaches the server.

    The state folder also has the access key, which a TCP listener needs.
    """
    done = swpks_server.run("lpar", "lpar1", "write", "x", "--wait", data=b"\0binary\xff")
    assert (done.returncode, done.stderr) == (0, b"")
    assert swpks_server.run("lpar", "lpar1", "read", "x").stdout == b"\0binary\xff"
    assert len(swpks_server.access_key()) == 32


def test_a_server_that_cannot_start_says_why(tmp_path):
    server = ServerProcess(tmp_path / "state", options=["--no-such-option"])
    with pytest.raises(ServerFailed, match="no-such-option"):
        server.start()
    assert server.pid is None
    with pytest.raises(ServerFailed, match="never started"):
        ServerProcess(tmp_path / "state").stop()


def test_a_second_start_is_refused(swpks_server):
    with pytest.raises(ServerFailed, match="runs already"):
        swpks_server.start()
    assert swpks_server.stop() in (0, -signal.SIGTERM)


@pytest.mark.parametrize("make", [ServerProcess, ConsoleProcess])
def test_a_path_that_is_too_long_for_a_socket(
    tmp_path: Path, make: type[ServerProcess | ConsoleProcess]
) -> None:
    """If a folder is too deep for the path of a socket, the error has the length in bytes and the remedy.

    The fixture makes nothing, not even a log.
    """
    folder = tmp_path / ("d" * 100)
    folder.mkdir()
    with pytest.raises(ValueError, match=r"bytes, and 107 are permitted.*with short_path\(tmp_path\)"):
        make(folder / "state").start()
    assert list(folder.iterdir()) == []
    with short_path(folder) as short:
        made = make(short / "state", options=["--no_such_option"])
        # The server rejects the option, so the short path was accepted.
        with pytest.raises(ServerFailed, match="no_such_option"):
            made.start()


def test_a_name_of_a_partition_can_be_too_long(tmp_path: Path) -> None:
    """The socket path of a partition can be too long, although that of the console is not."""
    folder = tmp_path / ("d" * (107 - len("/state/run/control.sock") - len(str(tmp_path)) - 1))
    folder.mkdir()
    with pytest.raises(ValueError, match=r"n\.sock has a path of 119 bytes"):
        ServerProcess(folder / "state", ["n" * 19 + ":64"]).start()
