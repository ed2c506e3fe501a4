"""The real QEMU with a guest of a few instructions: a panic, a power-off, and a power-off by the console.

A Linux kernel ends by the same calls (test_boot.py has kernels; they take longer, and have to be fetched).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from hcall_client.console import power_off, show_partition
from swpks.testing import ServerProcess
from tests.debian.reporting import reported
from tests.qemu import bare
from tests.qemu.bare import Token
from tests.qemu.guest import need_qemu
from tests.qemu.running import Running, Watched, running

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("not_measured")]


def _kernel(folder: Path, token: Token) -> Path:
    kernel = bare.write(folder / "vmlinux", token)
    with reported():
        need_qemu(kernel)
    return kernel


@pytest.mark.parametrize("token,status", [(Token.OS_TERM, 4), (Token.POWER_OFF, 0)])
def test_the_end_of_a_guest(tmp_path: Path, swpks_server: ServerProcess, token: Token, status: int) -> None:
    """After a panic or a power-off QEMU's own exit status is 0; its last event shows which it was."""
    command = Running("--kernel", _kernel(tmp_path, token), "--state", swpks_server.state)
    assert command.end() == status, command.said
    assert ("the guest has panicked" in command.said) == (status == 4)
    assert "H_PKS_GET_CONFIG -> H_SUCCESS" in command.said
    assert "qemu-system-ppc64: warning" not in command.said
    assert swpks_server.console.call(show_partition("lpar1")).power == "off"


def test_a_panic_that_pauses_the_machine(tmp_path: Path, swpks_server: ServerProcess) -> None:
    """With `-action panic=pause` QEMU pauses the guest after a panic. The command ends then."""
    kernel = _kernel(tmp_path, Token.OS_TERM)
    command = Running("--kernel", kernel, "--state", swpks_server.state, "--", "-action", "panic=pause")
    assert command.end() == 4, command.said


def test_the_console_powers_off(tmp_path: Path, swpks_server: ServerProcess) -> None:
    kernel = _kernel(tmp_path, Token.SPIN)
    with running("--kernel", kernel, "--state", swpks_server.state) as command:
        watched = Watched(command.descendants())
        swpks_server.console.call(power_off("lpar1"))
        assert command.end() == 5, command.said
        assert "terminating on signal" not in command.said, "the command itself has ended QEMU"
    assert watched.still_running() == []
