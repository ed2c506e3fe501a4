"""Starts with NVRAM on etcd that need no cluster: no member answers, and NVRAM in another place."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hcall_abi.errors import OperatorError, StorageError
from hcall_abi.rules import cluster as rules
from hcall_abi.rules import storage
from hcall_server.components.memory import MemoryCard, MemoryTpm
from hcall_server.components.seam import Card
from hcall_server.nvram import NvramError
from hcall_server.nvram.memory import MemoryNvram
from hcall_server.platform.identity import SystemIdentity
from hcall_server.platform.system_state import SystemState
from hcall_server.service.age import AgeCheck
from hcall_server.service.assembly import assemble
from hcall_server.service.settings import Settings
from hcall_server.service.state import State
from swpks.testing.own_process import ServerFailed
from swpks.testing.process import ServerProcess
from swpks.testing.seams import simulated_seams
from tests.nvram.etcd_members import free_ports
from tests.service.folder import assembled

STOPPED_PORT = "etcd:127.0.0.1:{}"


def server(state: Path, *options: str) -> ServerProcess:
    """Return a server whose etcd does not run."""
    return ServerProcess(state, [], ["--nvram", STOPPED_PORT.format(*free_ports(1)), *options])


@pytest.mark.process
def test_without_a_member_a_start_is_refused(tmp_path: Path) -> None:
    """R-85: the error names the member and the cure, and a new folder is not left behind."""
    with pytest.raises(ServerFailed, match=r"127\.0\.0\.1:\d+: .*start a majority.*nvram\.reached"):
        server(tmp_path / "state").start()
    assert not (tmp_path / "state").exists()


@pytest.mark.process
def test_without_a_member_a_standby_waits(tmp_path: Path) -> None:
    """R-85: a standby waits for etcd too, and its status is 0 after a stop signal."""
    standby = server(tmp_path / "state", "--standby")
    with ThreadPoolExecutor() as pool:
        starting = pool.submit(standby.start)
        try:
            assert "no member of etcd has answered" in standby.log_lines("nvram.waits")[0]
        finally:
            assert standby.pid is not None
            # A terminal that is closed sends SIGHUP twice, and a service manager sends SIGTERM and SIGHUP.
            for each in (signal.SIGTERM, signal.SIGHUP, signal.SIGHUP, signal.SIGTERM):
                os.kill(standby.pid, each)
        assert standby.wait() == 0
        with pytest.raises(ServerFailed):
            starting.result()


def test_a_state_with_nvram_in_its_folder_is_refused(tmp_path: Path) -> None:
    """R-85: a start on etcd does not leave the records of the folder behind."""
    with assembled(tmp_path / "state"):
        pass
    state = State(tmp_path / "state", nvram_on_etcd=True)
    with pytest.raises(OperatorError, match="without --nvram") as refused:
        state.etcd_mark()
    state.close()
    assert refused.value.rule is rules.NVRAM_ONE_PLACE


def test_a_state_with_nvram_on_etcd_is_refused(tmp_path: Path) -> None:
    """R-85: a start without --nvram does not begin with an empty NVRAM."""
    state = State(tmp_path / "state", nvram_on_etcd=True)
    state.etcd_mark().close()
    with pytest.raises(OperatorError, match="with its --nvram") as refused:
        state.seams()
    state.close()
    assert refused.value.rule is rules.NVRAM_ONE_PLACE
    assert not (tmp_path / "state" / "service-processor" / "nvram.sqlite").exists()


@pytest.mark.parametrize("parts", [["anchor-card"], ["anchor-card", "tpm"], ["tpm", "tpm-2", "run"]])
def test_parts_alone_are_a_state_only_with_etcd(tmp_path: Path, parts: list[str]) -> None:
    """R-85: a folder with nothing but the parts that a standby needs is a state, if NVRAM is on etcd."""
    for each in parts:
        (tmp_path / "state" / each).mkdir(parents=True, mode=0o700)
        (tmp_path / "state").chmod(0o700)
    with pytest.raises(OperatorError, match=r"without its file lock|holds other things"):
        State(tmp_path / "state")
    State(tmp_path / "state", nvram_on_etcd=True).close()


@pytest.mark.parametrize("other", ["letter", "nvram.sqlite", "access-keys"])
def test_parts_beside_other_things_are_no_state(tmp_path: Path, other: str) -> None:
    """R-85: more than the parts is the folder of another program, or of a system that lost its lock."""
    for each in ("anchor-card", other):
        (tmp_path / "state" / each).mkdir(parents=True, mode=0o700)
        (tmp_path / "state").chmod(0o700)
    with pytest.raises(OperatorError):
        State(tmp_path / "state", nvram_on_etcd=True)


def test_the_records_of_another_system_are_not_to_be_cleared() -> None:
    """R-85: two systems below one prefix: the second one is told to take another prefix."""
    nvram = MemoryNvram()
    nvram.always_newest = True
    assemble(simulated_seams(nvram=nvram, tpms=[MemoryTpm()]), Settings())
    with pytest.raises(StorageError, match=r"If another system has these .*another --nvram-prefix"):
        assemble(simulated_seams(nvram=nvram, tpms=[MemoryTpm()]), Settings())


def test_an_empty_prefix_below_a_mark_is_refused() -> None:
    """R-85: the local mark finds a wrong prefix, and records that are gone."""
    nvram = MemoryNvram()
    nvram.always_newest = True
    nvram.mark.held = [b"a mark of a commit", b""]
    with pytest.raises(NvramError, match="is --nvram-prefix right"):
        AgeCheck(nvram, accept_older=False).demand_new()


def test_a_standby_refuses_an_empty_prefix() -> None:
    """R-85: the folder of a system, without a mark, below a wrong prefix: nothing is written there."""
    nvram, card, tpm = MemoryNvram(), MemoryCard(), MemoryTpm()
    nvram.always_newest = True
    assemble(simulated_seams(nvram=nvram, card=card, tpms=[tpm]), Settings(), standby=True)  # a new system
    other = MemoryNvram()
    other.always_newest = True
    seams = simulated_seams(nvram=other, card=card, tpms=[tpm])
    with pytest.raises(NvramError, match=r"--nvram-prefix\?  If .* start once without --standby") as refused:
        assemble(seams, Settings(), standby=True)
    assert refused.value.rule is storage.NVRAM_AGE
    assert other.records == {}
    for standby in (False, True):  # the first step of spec/service.md#to-etcd-and-back, and a later start
        assert assemble(seams, Settings(), standby=standby).system.state is SystemState.RECOVERY


def test_a_standby_of_a_system_that_was_cleared_goes_on() -> None:
    """R-62, R-85: after Clear All an empty NVRAM is the usual one."""
    card = MemoryCard()
    card.write(Card(SystemIdentity.make(os.urandom), reset_pending=True))
    nvram = MemoryNvram()
    nvram.always_newest = True
    machine = assemble(simulated_seams(nvram=nvram, card=card), Settings(), standby=True)
    assert machine.system.state is SystemState.RESET_PENDING
