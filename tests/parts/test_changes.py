"""Partitions are deleted and renamed under a real server, with their sockets, key files and TCP ids.

Some tests then kill or stop the server; one is in Recovery.
"""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from hcall_abi.errors import StorageError
from hcall_abi.frames import OpenStatus
from hcall_client.blocking import BlockingChannel
from hcall_client.calls import read_object
from hcall_client.console import (
    begin_recovery,
    change_partition,
    create_partition,
    delete_partition,
    power_off,
    power_on,
    restore_copy,
    set_system,
    show_copy,
    show_partition,
    show_system,
)
from hcall_client.errors import OpenRefused
from hcall_server.data_channel.listeners import Listeners
from hcall_server.service.access_keys import AccessKeys
from tests.parts.life import Life
from tests.parts.systems import CANARY, LABEL, OS, System
from tests.service.folder import assembled

TCP = ("--listen", "tcp:127.0.0.1:0")


@pytest.fixture
def system(tmp_path: Path) -> System:
    """A filled system that is off: its partition alpha has an object."""
    return System(tmp_path / "state").filled()


def files(system: System) -> list[str]:
    """Return the names of the partitions that have an access-key file."""
    return AccessKeys(system.state / "access-keys").names()


def killed_and_started(system: System) -> None:
    """Kill the server with -9, and start it without partitions in its settings."""
    system.server.kill()
    system.server.partitions = []
    system.server.start()


@pytest.mark.process
def test_a_deletion_outlives_a_kill(system: System) -> None:
    """R-23: if the server is killed after it has answered a deletion, nothing of the partition comes back.

    Record, key file and sockets stay removed. The copy of the store restores the partition.
    """
    with system.on(TCP) as server:
        key, uuid = server.access_key("alpha"), system.ask(show_partition("alpha")).uuid
        copy = system.ask(show_copy("alpha")).copy
        system.ask(power_off("alpha"))
        output = server.run("hmc", "delete", "alpha")
        assert (output.returncode, b"partition.empty" in output.stderr) == (1, True)
        assert b"; if the objects may be destroyed: `swpks hmc delete alpha --destroy` [" in output.stderr
        assert server.hmc("delete", "alpha", "--destroy").startswith("alpha is deleted\n")
        killed_and_started(system)
        assert system.view().partitions == []
        assert (files(system), list((system.state / "run").glob("alpha*"))) == ([], [])
        address = ("127.0.0.1", server.ready["tcp_port"])
        with pytest.raises(OpenRefused) as refused:
            BlockingChannel.connect(address, partition=1, access_key=key, timeout=20)
        assert refused.value.status == OpenStatus.NO_SUCH_PARTITION
        system.ask(create_partition("other", number=1))
        back = system.ask(restore_copy(copy))
        assert (back.name, back.uuid, back.number, back.restores) == ("alpha", uuid, 2, 1)
        assert server.access_key("alpha") == key
        system.ask(power_on("alpha"))
        assert system.read_object() == CANARY


@pytest.mark.process
def test_a_rename_outlives_a_kill(system: System) -> None:
    """R-47: after a rename and a kill, the partition has its old key under the new name, also over TCP.

    Nothing has the old name any more.
    """
    with system.on(TCP) as server:
        key, before = server.access_key("alpha"), system.ask(show_partition("alpha"))
        system.ask(power_off("alpha"))
        server.hmc("rename", "alpha", "omega")
        killed_and_started(system)
        after = system.ask(show_partition("omega"))
        assert (after.uuid, after.number) == (before.uuid, before.number)
        assert (files(system), server.access_key("omega")) == (["omega"], key)
        assert sorted(path.name for path in (system.state / "run").glob("*a.sock")) == ["omega.sock"]
        address = ("127.0.0.1", server.ready["tcp_port"])
        for where in (address, str(server.socket("omega"))):
            with BlockingChannel.connect(where, partition=1, access_key=key, timeout=20) as channel:
                assert channel.call(read_object(OS, LABEL)).data == CANARY


@pytest.mark.process
def test_a_rename_and_a_stop_in_one_server(system: System) -> None:
    """A renamed partition runs under its new name at once.

    When the console powers the system off, the server ends with status 0.
    """
    system.server.start()
    try:
        system.ask(power_off("alpha"))
        system.ask(change_partition("alpha", new_name="omega", attributes={"secure_boot": 1}))
        system.ask(power_on("omega"))
        assert sorted(path.name for path in (system.state / "run").glob("*a.sock")) == ["omega.sock"]
        with system.server.connect_blocking("omega") as channel:
            assert channel.call(read_object(OS, LABEL)).data == CANARY
        system.ask(set_system("rack 7"))
        assert system.server.hmc("stop") == "system rack 7 powers off\n"
        assert system.server.wait() == 0
        assert 'signal="none"' in system.server.log or '"signal": "none"' in system.server.log
    finally:
        system.server.kill()
    with system.on():
        assert system.view().name == "rack 7"


@pytest.mark.process
def test_in_recovery_nothing_is_changed(tmp_path: Path) -> None:
    """R-48: in Recovery no partition exists, so none can be changed or created. A stop works.

    A new name of the system is stored when Recovery ends.
    """
    life = Life(tmp_path, wishes=())
    life.system.server.start()
    try:
        life.system.ask(begin_recovery())
        for request in delete_partition("alpha"), change_partition("alpha", new_name="omega"):
            life.refused("name.exists", request)
        life.refused("system.operating", create_partition("b", number=3))
        life.system.ask(set_system("rack 7"))
        life.system.server.hmc("recover", "--give-up")
        assert life.system.ask(show_system()).name == "rack 7"
        life.system.server.hmc("stop")
        assert life.system.server.wait() == 0
    finally:
        life.system.server.kill()


async def test_a_passed_socket_follows_its_partition(tmp_path: Path) -> None:
    """If a partition is renamed, it keeps the passed socket, and gets no second one. A deletion closes it.

    A new partition of the same name gets a new socket.
    """
    with assembled(tmp_path / "state") as machine, socket.socket(socket.AF_UNIX) as passed:
        listeners = machine.transport
        assert isinstance(listeners, Listeners)
        passed.bind(str(tmp_path / "a.sock"))
        passed.listen()
        partition = machine.changes.create("a", 8)
        listeners.adopt(passed, partition)
        await machine.changes.change("a", new_name="b")
        machine.power_on("b")
        assert listeners.paths == {"b": str(tmp_path / "a.sock")}
        machine.power_off("b")
        assert passed.fileno() >= 0
        await machine.changes.delete("b")
        assert (passed.fileno(), listeners.paths) == (-1, {})
        machine.changes.create("b", 8)
        machine.power_on("b")
        assert listeners.paths == {"b": str(tmp_path / "state" / "run" / "b.sock")}
        listeners.close_all()


async def test_a_reserved_socket_follows_its_partition_too(tmp_path: Path) -> None:
    """R-48: a renamed partition uses the socket that was reserved for it, and gets no other one."""
    with assembled(tmp_path / "state") as machine, socket.socket(socket.AF_UNIX) as passed:
        listeners = machine.transport
        assert isinstance(listeners, Listeners)
        machine.changes.create("a", 8)
        listeners.reserve(passed, "a")
        await machine.changes.change("a", new_name="b")
        machine.power_on("b")
        assert not (tmp_path / "state" / "run" / "b.sock").exists()
        assert passed.fileno() >= 0
        listeners.close_all()


async def test_a_key_file_that_cannot_be_removed_changes_nothing(tmp_path: Path) -> None:
    """If the access-key file can't be removed, a deletion or a rename fails and changes nothing."""
    with assembled(tmp_path / "state") as machine:
        machine.changes.create("a", 8)
        listeners = machine.transport
        assert isinstance(listeners, Listeners)
        path = tmp_path / "state" / "access-keys" / "a.key"
        before, content = machine.system.find("a").profile, path.read_bytes()
        path.unlink()
        path.mkdir()
        for change in machine.changes.delete("a"), machine.changes.change("a", new_name="b"):
            with pytest.raises(StorageError):
                await change
            assert machine.system.find("a").profile == before
        path.rmdir()
        await machine.changes.change("a", new_name="b")
        assert (tmp_path / "state" / "access-keys" / "b.key").read_bytes() == content
