"""The server as a process: its folder, its signals, its second start (spec/service.md)."""

import os
import signal
import sys
from pathlib import Path
from uuid import UUID

import pytest

from hcall_abi.frames import OpenStatus
from hcall_client.calls import (
    Request,
    confirm_object_flushed,
    gen_password,
    get_config,
    write_object,
)
from hcall_client.console import show_partition
from hcall_client.errors import HcallError, OpenRefused, SessionEnded
from hcall_client.request import Authorization
from hcall_server.nvram.names import parse_partition
from hcall_server.nvram.sqlite import SqliteNvram
from swpks.testing import ServerProcess
from tests.data_channel.support import read, write
from tests.service.processes import mode, serve, served

pytestmark = pytest.mark.process


def write_with(who: Authorization, label: bytes) -> Request[None]:
    """Return a WRITE_OBJECT of a consumer that has a password."""
    return write_object(who, label, b"x")


def test_everything_is_private(server: ServerProcess) -> None:
    """R-01: No other user may open the socket, because the socket is the identity, or another file."""
    before = os.umask(0)
    try:
        server.start()
    finally:
        os.umask(before)
    state = server.state
    folders = [state, state / "run", state / "access-keys", state / "anchor-card"]
    assert [mode(folder) for folder in folders] == [0o700] * 4
    files = [path for path in state.rglob("*") if not path.is_dir()]
    assert {path.name for path in files} >= {"alpha.sock", "beta.sock", "control.sock", "alpha.key", "lock"}
    assert {path.name: oct(mode(path)) for path in files if mode(path) != 0o600} == {}


def test_a_second_server_is_refused(server: ServerProcess) -> None:
    """A second server on the same state is refused, and the first one goes on."""
    server.start()
    done = serve("--state", str(server.state), "--partition", "gamma:4")
    assert done.returncode == 2
    assert f"another server (process {server.pid}) serves" in done.stderr
    assert (
        f"send it commands by swpks hmc --state {server.state}, or end it: swpks hmc --state" in done.stderr
    )
    assert "spec/service.md#state" in done.stderr
    assert done.stdout == ""
    with server.connect_blocking("alpha") as channel:
        channel.call(write(b"still here"))
    assert not server.socket("gamma").exists()


def test_a_killed_server_is_replaced(server: ServerProcess) -> None:
    """R-21, R-04: After a kill, the old sockets and the lock do not stop a start.

    Confirmed changes are there, passwords are not.
    """
    server.start()
    with server.connect_blocking("alpha") as channel:
        os_with_password = channel.call(gen_password(3, 32))
        channel.call(write_with(os_with_password, b"label"))
        while not channel.call(confirm_object_flushed(os_with_password, b"label")).flushed:
            pass
        server.kill()
    assert server.socket("alpha").is_socket()
    server.start()
    with server.connect_blocking("alpha") as channel:
        assert channel.ipl_count == 2
        assert channel.call(read(b"label")).data == b"x"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_flushes_and_says_goodbye(server: ServerProcess, number: int) -> None:
    """R-20: A signal flushes all changes, sends GOODBYE 4, removes the sockets, and ends with status 0."""
    server.options = ["--flush-delay", "60000"]
    server.start()
    channel = server.connect_blocking("alpha")
    channel.call(write(b"not confirmed"))
    assert server._process is not None
    server._process.send_signal(number)
    assert server._process.wait(20) == 0
    with pytest.raises(SessionEnded) as ended:
        channel.call(read(b"not confirmed"))
    assert ended.value.reason == 4
    channel.close()
    assert list((server.state / "run").iterdir()) == []
    server.start()
    with server.connect_blocking("alpha") as channel:
        assert channel.call(read(b"not confirmed")).data == b"x"


def test_nohup_is_respected(tmp_path: Path) -> None:
    """If SIGHUP is ignored at the start, the server ignores it. Other stop signals stop the server."""
    with served(tmp_path / "state", trap="trap '' HUP") as server:
        server.process.send_signal(signal.SIGHUP)
        with server.connect() as channel:
            channel.call(write(b"label"))
        assert "SIGHUP" in signals(server.ready["pid"], "SigIgn")
        others = {"SIGTERM", "SIGINT", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGPWR", "SIGXCPU"}
        caught = signals(server.ready["pid"], "SigCgt")
        # From Python 3.13 on, construct imports pdb, and pdb imports readline. readline handles SIGWINCH,
        # which stops no server.
        if sys.version_info >= (3, 13):
            caught -= {"SIGWINCH"}
        assert caught == others
        assert server.stop() == 0


def signals(pid: int, kind: str) -> set[str]:
    """The signals that a process ignores (SigIgn) or catches (SigCgt)."""
    status = Path(f"/proc/{pid}/status").read_text("ascii")
    mask = int(next(line.split()[1] for line in status.splitlines() if line.startswith(f"{kind}:")), 16)
    return {each.name for each in signal.Signals if mask & 1 << each - 1}


def test_partitions_are_remembered_and_grow(server: ServerProcess) -> None:
    """R-32: A partition of the command line is created, stored and grown, and never shrinks."""
    server.start().stop()
    server.partitions = ["beta:8"]
    server.restart()
    with server.connect_blocking("alpha") as alpha, server.connect_blocking("beta") as beta:
        assert alpha.call(get_config()).total_size == 64 * 1024
        assert beta.call(get_config()).total_size == 8 * 1024
    server.stop()
    done = serve("--state", str(server.state), "--partition", "beta:4")
    assert done.returncode == 2
    assert "never shrinks" in done.stderr


def test_a_partition_without_a_keystore_answers_h_function(server: ServerProcess) -> None:
    """R-30, R-35: Without a size on the command line, the keystore is off and calls get H_FUNCTION."""
    server.partitions = ["plain"]
    server.start()
    with server.connect_blocking("plain") as channel, pytest.raises(HcallError) as caught:
        channel.call(get_config())
    assert caught.value.status == -2


def test_a_configuration_file_says_the_same_and_more(server: ServerProcess, tmp_path: Path) -> None:
    """R-74: The file sets level, sizes and limits. The command line adds partitions and has priority."""
    config = tmp_path / "swpks.toml"
    config.write_text(
        'firmware = "FW950"\nflush_delay_ms = 0\nlisten = ["tcp:127.0.0.1:0"]\n[limits]\nmax_sessions = 1\n'
        '[[partition]]\nname = "filed"\nkeystore_kbytes = 8\nsecure_boot = "enforce"\n'
        '[[partition]]\nname = "later"\nauto_start = false\n'
    )
    server.partitions, server.options = ["filed:16"], ["--config", str(config)]
    ready = server.start().ready
    assert (ready["firmware"], ready["running"]) == ("FW950", ["filed"])
    assert ready["tcp_port"]
    with server.connect_blocking("filed") as channel:
        assert channel.level == "FW950"
        assert channel.call(get_config()).total_size == 16 * 1024
        with pytest.raises(OpenRefused) as refused:
            # The client tries again for 0.2 seconds.
            server.connect_blocking("filed", timeout=0.2)
        assert refused.value.status == OpenStatus.TOO_MANY_SESSIONS
    server.partitions, server.options = [], []
    assert server.restart().ready["firmware"] == "FW950"


def test_a_damaged_image_leaves_the_others_serving(server: ServerProcess) -> None:
    """R-02: One flipped bit in an image is detected. The log has the partition and the reason.

    Other partitions are unaffected.
    """
    server.start()
    uuid = UUID(server.console.call(show_partition("alpha")).uuid)
    server.stop()
    nvram = SqliteNvram(server.state / "service-processor" / "nvram.sqlite")
    name, blob = next((name, blob) for name, blob in nvram.load().items() if parse_partition(name) == uuid)
    nvram.commit({name: blob[:-1] + bytes([blob[-1] ^ 1])})
    nvram.close()
    ready = server.start().ready
    assert (ready["running"], list(ready["sockets"])) == (["beta"], ["beta"])
    assert "alpha" in ready["refused"]
    with server.connect_blocking("beta") as channel:
        channel.call(write(b"a"))
    assert server.stop() == 0
    assert "partition.refused" in server.log
    server.start()
    assert "alpha" in server.ready["refused"]


def test_a_lost_root_key_stops_the_server(server: ServerProcess) -> None:
    """R-02, R-41: Without its root key the server does not start. A new root key would open no record."""
    server.start().stop()
    (server.state / "anchor-card" / "anchor-card").unlink()
    (server.state / "tpm" / "seed").unlink()
    done = serve("--state", str(server.state))
    assert done.returncode == 3
    assert "no copy of the root key is readable" in done.stderr
    assert not (server.state / "anchor-card" / "anchor-card").exists()


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    """A folder with other files is refused; the server adds no file and changes no mode."""
    (tmp_path / "thesis.tex").write_text("")
    tmp_path.chmod(0o755)
    done = serve("--state", str(tmp_path))
    assert done.returncode == 2
    assert "holds other things" in done.stderr
    assert mode(tmp_path) == 0o755


def test_a_state_that_others_may_enter_is_refused(server: ServerProcess) -> None:
    """R-02: A state that other users may enter is refused."""
    server.start().stop()
    server.state.chmod(0o750)
    done = serve("--state", str(server.state))
    assert done.returncode == 2
    assert "mode 0750" in done.stderr
