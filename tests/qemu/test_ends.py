"""How `swpks qemu` ends: no process is left behind, and the exit status shows the reason."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from hcall_client.console import power_off, show_partition
from swpks.testing import ServerProcess
from tests.qemu.assemble import PANIC
from tests.qemu.fake_qemu import WARNING
from tests.qemu.running import Running, Watched, fake_kernel, fake_qemu, running

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("not_measured")]


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A PATH whose first folder has the fake QEMU."""
    return fake_qemu(tmp_path)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_nothing_is_left_behind(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, path: str, signum: signal.Signals
) -> None:
    """QEMU, the server and the temporary state end with the command, even after SIGKILL."""
    temporary = tmp_path_factory.mktemp("t")  # the path of a socket has to be short
    with running("--kernel", fake_kernel(tmp_path), PATH=path, TMPDIR=str(temporary)) as command:
        started = command.descendants()
        names = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in started]
        for name in (b"fake_qemu", b"serve", b"cleanup"):
            assert any(name in each for each in names), names
        assert len(list(temporary.iterdir())) == 1
        # QEMU's warnings about its default machine are hidden. Only this other warning is shown.
        assert [line for line in command.said.splitlines() if WARNING in line] == [
            f"{WARNING}, cap-cfpc=fixed"
        ]
        watched = Watched(started)
        command.process.send_signal(signum)
        status = command.end()
    assert watched.still_running() == [], names
    assert list(temporary.iterdir()) == []
    assert status == (-signum if signum == signal.SIGKILL else 128 + signum), command.said
    assert "Traceback" not in command.said


def test_the_second_machine_on_a_partition(tmp_path: Path, path: str, swpks_server: ServerProcess) -> None:
    """A second machine on a partition is refused before any restart.

    The error names the first one's process.
    """
    kernel, state = fake_kernel(tmp_path), swpks_server.state
    with running("--kernel", kernel, "--state", state, PATH=path) as first:
        before = swpks_server.console.call(show_partition("lpar1")).ipl_count
        second = Running("--kernel", kernel, "--state", state, PATH=path)
        assert second.end() == 2
        assert f"a machine runs on lpar1: swpks qemu, process {first.process.pid}" in second.said
        assert "rule partition.machine" in second.said
        view = swpks_server.console.call(show_partition("lpar1"))
        assert (view.power, view.ipl_count) == ("running", before)
        first.process.kill()
        first.end()
    # The first command was killed, and this process takes its claim. SIGTERM then powers the partition off.
    with running("--kernel", kernel, "--state", state, PATH=path) as third:
        third.process.terminate()
        assert third.end() == 128 + signal.SIGTERM
    assert swpks_server.console.call(show_partition("lpar1")).power == "off"
    assert not list((state / "run").glob("*.qemu"))


def test_a_server_that_is_away_is_told_of(tmp_path: Path, path: str, swpks_server: ServerProcess) -> None:
    """The command reports the loss of the server and its return, even if the guest makes no h-call."""
    words = ("--kernel", fake_kernel(tmp_path), "--state", swpks_server.state, "--patience", 7)
    with running(*words, PATH=path) as command:
        swpks_server.stop()
        command.until("the session with lpar1 is lost")
        assert "an h-call of the guest will wait up to 7 s for a server" in command.said
        swpks_server.start()
        command.until("the session with lpar1 is open again")
        swpks_server.console.call(power_off("lpar1"))
        assert command.end() == 5


def test_a_keystore_that_is_off_is_told_of(tmp_path: Path, path: str) -> None:
    """If the keystore is off, the guest still starts. A message says how to turn the keystore on."""
    words = ("--kernel", fake_kernel(tmp_path, PANIC), "--state", tmp_path / "s")
    command = Running(*words, partition="lpar1:0", PATH=path)
    assert command.end() == 4, command.said
    assert "the keystore of lpar1 is off (0 KiB): H_PKS calls answer H_FUNCTION" in command.said
    assert "--partition lpar1:64 turns it on, and at a server of its own swpks hmc set" in command.said


def test_a_state_below_a_missing_folder(tmp_path: Path, path: str) -> None:
    """The command makes a state below a missing folder, as `swpks serve` does. Its log is private.

    The guest panics at the end.
    """
    # The folders have one letter each, because a socket's path has a maximum length.
    state = tmp_path / "n" / "d" / "s"
    command = Running("--kernel", fake_kernel(tmp_path, PANIC), "--state", state, PATH=path)
    assert command.end() == 4, command.said
    assert "the guest has panicked; its console is above. The command line names no root" in command.said
    assert "give --initrd FILE, or a disk (-- -drive ...) with root= in --append" in command.said
    assert "the keystore of lpar1 gets 64 KiB; --partition lpar1:KBYTES chooses another size" in command.said
    assert state.with_name("s.log").stat().st_mode & 0o777 == 0o600
