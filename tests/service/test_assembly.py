"""Assembly: settings and stored records make a machine. State folder, access keys, passed sockets."""

import io
import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from hcall_abi.console import AT_FIRST, ATTRIBUTES, ConsoleAttributes
from hcall_abi.consumers import SecureBoot
from hcall_abi.errors import OperatorError, StorageError, SwpksError
from hcall_abi.levels import LEVELS
from hcall_server.components.memory import MemoryCard
from hcall_server.data_channel.listeners import assign
from hcall_server.data_channel.sockets import listen_unix, passed_sockets, remove_stale
from hcall_server.keystore.signed import LatchUse
from hcall_server.machine import logs
from hcall_server.machine.machine import Machine
from hcall_server.nvram.memory import MemoryNvram
from hcall_server.nvram.names import COMMIT, SYSTEM, partition_name, wrapped_name
from hcall_server.platform.system_state import SystemState
from hcall_server.service.assembly import assemble
from hcall_server.service.settings import PartitionSettings, Settings
from hcall_server.service.state import State
from swpks.testing.seams import simulated_seams


class Stored:
    """A system with its own NVRAM and anchor card. Each start assembles a new machine on them."""

    def __init__(self) -> None:
        self.nvram = MemoryNvram()
        self.card = MemoryCard()

    async def start(self, *wishes: PartitionSettings, **fields: Any) -> Machine:
        """Assemble a machine. Afterwards `written` has the records that the start changed."""
        seams = simulated_seams(nvram=self.nvram, card=self.card)
        machine = assemble(seams, Settings(partition=wishes, **fields))
        before = self.nvram.records
        assert await machine.encryptor.flush()
        after = self.nvram.records
        self.written = {name for name in after if before.get(name) != after[name]}
        return machine


@pytest.fixture
def stored() -> Stored:
    """A system that has never been started."""
    return Stored()


def record_of(machine: Machine, name: str) -> str:
    return partition_name(machine.system.find(name).profile.uuid)


async def test_a_new_system_is_made_once(stored: Stored) -> None:
    """R-30: The first start makes the system and the partitions of the settings. Later starts find them."""
    first = await stored.start(PartitionSettings.of("a", 8), PartitionSettings.of("plain"))
    of_partitions = {record_of(first, name) for name in ("a", "plain")}
    assert stored.written == {SYSTEM, COMMIT, *of_partitions}
    assert first.system.find("plain").keystore is None
    second = await stored.start(PartitionSettings.of("a", 8))
    assert stored.written == set()
    assert list(second.system.partitions) == ["a", "plain"]
    assert second.system.system_id == first.system.system_id


async def test_wishes_change_what_is_remembered(stored: Stored) -> None:
    """R-32: Settings change a stored partition's size, the mode of its next IPL and its automatic start."""
    await stored.start(PartitionSettings.of("a", 8), PartitionSettings.of("b", 8))
    again = await stored.start(PartitionSettings.of("a", 16, auto_start=False, secure_boot="enforce"))
    found = again.system.find("a")
    assert stored.written == {COMMIT, record_of(again, "a")}
    assert (found.kbytes, found.auto_start, found.next_secure_boot) == (16, False, SecureBoot.ENFORCE)
    kept = (await stored.start(PartitionSettings.of("a"))).system.find("a")
    assert (kept.kbytes, kept.auto_start, kept.next_secure_boot) == (16, False, SecureBoot.ENFORCE)


@pytest.mark.parametrize(
    "wish,rule",
    [
        (PartitionSettings.of("a", 4), "never shrinks"),
        (PartitionSettings.of("b", 3), "4 to 128 KiB"),
        (PartitionSettings.of("b", 129), "4 to 128 KiB"),
        (PartitionSettings.of("control", 4), "name"),
        (PartitionSettings.of("../b", 4), "name"),
    ],
)
async def test_an_impossible_wish_stops_the_start(stored: Stored, wish: PartitionSettings, rule: str) -> None:
    """R-31, R-32: the start fails with the console's own refusals and changes nothing."""
    await stored.start(PartitionSettings.of("a", 8))
    with pytest.raises(OperatorError, match=rule):
        await stored.start(wish)
    again = await stored.start()
    assert stored.written == set()
    assert [(each.name, each.kbytes) for each in again.system.partitions.values()] == [("a", 8)]


def set_to(*numbers: int) -> ConsoleAttributes:
    """Return the default attributes with these numbers, in the order of the page."""
    return AT_FIRST.with_numbers(dict(zip(ATTRIBUTES, numbers, strict=False)))


async def test_attributes_are_remembered(stored: Stored) -> None:
    """R-36: attributes that the settings do not name stay. A restart never arms the used-up latch again."""
    armed = PartitionSettings.of(
        "a", 8, keystore_signed_updates=1, keystore_signed_updates_without_verification=1
    )
    assert (await stored.start(armed)).system.find("a").attributes == set_to(8, 1, 1, 0)
    again = await stored.start(PartitionSettings.of("a", linux_dynamic_key_secure_boot=1))
    partition = again.system.find("a")
    assert partition.attributes == set_to(8, 1, 1, 1)
    partition.disarm_without_verification(LatchUse.PK_TAKEN)
    again.encryptor.changed(partition)
    assert await again.encryptor.flush()
    partition = (await stored.start(armed)).system.find("a")
    assert partition.attributes == set_to(8, 1, 0, 1)
    assert partition.level.calls == LEVELS["FW1110"].calls


async def test_the_level_and_the_total_are_remembered(stored: Stored) -> None:
    """R-34, R-74: A system keeps its firmware level and total. A new level brings its own default total."""

    async def found(**fields: Any) -> tuple[str, int]:
        system = (await stored.start(**fields)).system
        return system.level.name, system.total_kbytes

    assert await found(firmware="FW950") == ("FW950", 1024)
    assert await found(system_total_kbytes=512) == ("FW950", 512)
    assert await found() == ("FW950", 512)
    assert await found(firmware="FW1110") == ("FW1110", 16 * 1024)


async def test_a_lost_system_record_stops_the_start(stored: Stored) -> None:
    """A start makes no new system record while other records exist."""
    await stored.start(PartitionSettings.of("a", 8))
    stored.nvram.commit({SYSTEM: None})
    with pytest.raises(StorageError, match="the system record is missing"):
        await stored.start()


async def test_a_root_key_is_made_only_for_an_empty_nvram(stored: Stored) -> None:
    """R-02: a new root key would make records of the old key unreadable, so none is made."""
    await stored.start(PartitionSettings.of("a", 8))
    stored.card.held = None
    del stored.nvram.records[wrapped_name(1)]
    with pytest.raises(StorageError, match="no copy of the root key is readable, and NVRAM holds 3 records"):
        await stored.start()
    assert stored.card.read() is None
    stored.nvram = MemoryNvram()
    await stored.start()
    made = stored.card.read()
    assert made
    await stored.start()
    assert stored.card.read() is made
    assert made.identity.root_key.hex() not in repr(made)


async def test_a_first_start_that_is_cut_short_is_done_again(stored: Stored) -> None:
    """R-41: the card is written last. If it is missing, the next start writes it from the wrapped copy."""
    await stored.start()
    first, stored.card = stored.card.held, MemoryCard()
    again = await stored.start(PartitionSettings.of("a", 8))
    assert first
    assert stored.card.read() == first
    assert again.system.state is SystemState.OPERATING
    assert again.system.system_id == first.identity.system_id
    assert (await stored.start()).system.find("a").kbytes == 8


async def test_a_lost_card_with_few_records_left_is_no_new_system(stored: Stored) -> None:
    """R-22: the commit record still lists a partition whose record is missing."""
    await stored.start(PartitionSettings.of("a", 8))
    stored.card.held = None
    kept = {name: stored.nvram.records[name] for name in (SYSTEM, COMMIT)}
    stored.nvram.records = kept
    with pytest.raises(StorageError, match="no copy of the root key is readable"):
        await stored.start()
    assert stored.nvram.records == kept


async def test_a_cleared_nvram_is_never_a_new_system(stored: Stored) -> None:
    """R-22: the card promises a commit record, and the mark shows that commits existed."""
    await stored.start(PartitionSettings.of("a", 8))
    whole = stored.nvram.records
    without = {name: blob for name, blob in whole.items() if name != COMMIT}
    cases = [
        ("nvram.age", "it is empty, but its high-water mark says", {}),
        ("commit.record", "the commit record is missing", without),
    ]
    for rule, reason, kept in cases:
        stored.nvram.records = dict(kept)
        with pytest.raises(StorageError, match=reason) as caught:
            await stored.start()
        assert caught.value.rule.id == rule


async def test_accepted_older_records_put_back_contents_and_no_counter(stored: Stored) -> None:
    """R-22: Older records that are accepted put back contents: no IPL count and no used-up latch."""
    latch = "keystore_signed_updates_without_verification"
    armed = PartitionSettings("a", {"keystore_kbytes": 8, "keystore_signed_updates": 1, latch: 1})
    machine = await stored.start(armed)
    older = dict(stored.nvram.records)
    for _ in range(3):
        machine.system.power_on("a")
        machine.encryptor.changed(machine.system.find("a"))
        assert await machine.encryptor.flush()
        machine.system.power_off("a")
    used = machine.system.find("a").ipl_count
    slots = list(stored.nvram.mark.held)
    for lost in (False, True):
        stored.nvram.records = dict(older)
        stored.nvram.mark.held = [b"", b""] if lost else list(slots)
        seams = simulated_seams(nvram=stored.nvram, card=stored.card)
        # This start ends before its first flush, like a start with a power cut.
        assemble(seams, Settings(), accept_older=True)
        with pytest.raises(StorageError) as caught:
            await stored.start()
        assert caught.value.rule.id == "nvram.age"
        machine = assemble(seams, Settings(), accept_older=True)
        partition = machine.system.find("a")
        assert partition.attributes.numbers[latch] == 0
        partition.power_on()
        assert (partition.ipl_count > used, partition.profile.restores) == (True, 1)
        assert await machine.encryptor.flush()
        assert (await stored.start()).system.find("a").attributes.numbers[latch] == 0


async def test_a_total_below_what_is_stored_stops_the_start(stored: Stored) -> None:
    """R-34: the stored keystores never exceed the total, whether the total or the level gets smaller."""
    await stored.start(PartitionSettings.of("a", 64), PartitionSettings.of("b", 64))
    with pytest.raises(OperatorError, match="is 100 KiB at firmware level FW1110"):
        await stored.start(system_total_kbytes=100)
    with pytest.raises(OperatorError, match="total is 0 KiB at firmware level FW940"):
        await stored.start(firmware="FW940")
    assert (await stored.start(system_total_kbytes=128)).system.total_kbytes == 128


async def test_a_fault_plan_of_the_settings_is_there_from_the_first_call(stored: Stored) -> None:
    """R-75: A fault plan in the settings acts from the first call, as a plan of the console would."""
    machine = await stored.start(PartitionSettings.of("a", 8, faults=("READ_OBJECT=H_BUSY",)))
    assert [str(each.fault) for each in machine.faults[1].planned] == ["READ_OBJECT=H_BUSY,nth=1,times=1"]


def test_a_machine_is_assembled_outside_of_any_loop() -> None:
    """Assembly needs no event loop: changes stay pending, and partitions off, until the machine runs."""
    machine = assemble(simulated_seams(), Settings(partition=(PartitionSettings.of("a", 8),)))
    assert machine.encryptor.pending
    assert not machine.system.find("a").running


def test_one_state_has_one_server(tmp_path: Path) -> None:
    """The refusal of a second server names the process of the first. Afterwards another server can start."""
    first = State(tmp_path / "state")
    with pytest.raises(OperatorError, match=f"process {os.getpid()}"):
        State(tmp_path / "state")
    first.close()
    State(tmp_path / "state").close()


def test_a_state_that_can_not_be_written(tmp_path: Path) -> None:
    """If a file has the path of the state folder or of a folder above it, the start is refused."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SwpksError):
        State(tmp_path / "file")
    with pytest.raises(SwpksError):
        State(tmp_path / "file" / "state")


def test_only_sockets_are_cleared_away(tmp_path: Path) -> None:
    """A start removes a stale socket, but not a file at the socket's path: the operator may need it."""
    path = tmp_path / "a.sock"
    listen_unix(path).close()
    listen_unix(path).close()
    remove_stale(path)
    remove_stale(path)
    path.write_text("precious")
    with pytest.raises(OperatorError, match=r"is in the way .*: it is a file and no socket; move it away"):
        listen_unix(path)
    assert path.read_text() == "precious"


def test_sockets_passed_to_another_process_are_not_ours() -> None:
    """Sockets are accepted only if LISTEN_PID names this process."""
    assert passed_sockets({"LISTEN_PID": "1", "LISTEN_FDS": "1"}, 2) == []
    assert passed_sockets({}, 2) == []
    assert passed_sockets({"LISTEN_PID": "2", "LISTEN_FDS": "0"}, 2) == []


@pytest.mark.parametrize(
    "environment",
    [
        {"LISTEN_FDS": "many"},
        {},
        {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "a:b"},
        {"LISTEN_FDS": "1000"},
    ],
)
def test_a_confused_service_manager_is_refused(environment: dict[str, str]) -> None:
    """Wrong variables of a service manager are an error; the server does not guess descriptors."""
    with pytest.raises(OperatorError):
        passed_sockets(environment | {"LISTEN_PID": "2"}, 2)


def test_passed_sockets_are_sorted_by_name() -> None:
    """The name of a passed socket is a partition, `control`, or `tcp` for all partitions.

    A single socket needs no name.
    """
    made = [socket.socket(), socket.socket(), socket.socket(socket.AF_UNIX), socket.socket()]
    names = ["beta", "tcp", "control", "tcp"]
    private, common, control = assign(list(zip(names, made, strict=True)), ["alpha", "beta"])
    assert (private, common, control) == ({"beta": made[0]}, [made[1], made[3]], made[2])
    assert assign([("", made[0])], ["alpha"])[0] == {"alpha": made[0]}
    for wrong in ([("", made[0])], [("gamma", made[0])], [("beta", made[0]), ("beta", made[1])]):
        with pytest.raises(OperatorError):
            assign(wrong, ["alpha", "beta"])
    with pytest.raises(OperatorError):
        assign([("control", made[2]), ("control", made[2])], ["alpha"])
    with pytest.raises(OperatorError, match="none of Unix"):
        assign([("control", made[0])], ["alpha"])
    for each in made:
        each.close()


@pytest.mark.parametrize(
    "name,owner",
    [
        ("alpha.socket", "alpha"),
        ("swpks-alpha.socket", "alpha"),
        ("swpks-alpha", "alpha"),
        ("swpks-beta.socket", "swpks-beta"),
        ("b.socket", "b.socket"),
        ("swpks-tcp.socket", "tcp"),
        ("control.socket", "control"),
        ("swpks-control.socket", "control"),
    ],
)
def test_names_of_units_are_understood(name: str, owner: str) -> None:
    """A partition may have the name of a unit, so the exact name of a partition has priority."""
    there = ["alpha", "beta", "swpks-beta", "b.socket", "b"]
    with socket.socket(socket.AF_UNIX) as made:
        private, common, control = assign([(name, made)], there)
        assert (private, common, control) == (
            {} if owner in ("tcp", "control") else {owner: made},
            [made] if owner == "tcp" else [],
            made if owner == "control" else None,
        )


def test_the_unit_of_the_service_is_the_only_socket_of_the_only_partition() -> None:
    """A socket with the name `swpks.socket` is refused if there are several sockets or partitions."""
    with socket.socket(socket.AF_UNIX) as made:
        assert assign([("swpks.socket", made)], ["alpha"])[0] == {"alpha": made}
        for passed, names in ((1, ("alpha", "beta")), (2, ("alpha",))):
            with pytest.raises(OperatorError):
                assign([("swpks.socket", made)] * passed, list(names))


@pytest.fixture
def log_lines() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Returns a function for the warnings that were logged since its last call."""
    stream = io.StringIO()

    def taken() -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in stream.getvalue().splitlines()]
        stream.seek(0)
        stream.truncate()
        return lines

    logs.configure(level="warning", style="json", stream=stream)
    yield taken
    logs.configure(level="warning")


async def test_partitions_that_an_unreadable_record_leaves_out_are_logged(
    stored: Stored, log_lines: Callable[[], list[dict[str, Any]]]
) -> None:
    """R-22: An unreadable record may be of any partition, so none is created; a warning names them."""
    wishes = [PartitionSettings.of(name, 8) for name in ("a", "b", "c")]
    await stored.start(wishes[0])
    lost = UUID(int=7, version=4)
    stored.nvram.records[partition_name(lost)] = b"damaged " * 20
    machine = await stored.start(*wishes)
    assert list(machine.system.partitions) == ["a", f"unreadable:{lost}"]
    (line,) = log_lines()
    assert (line["event"], line["partitions"]) == ("partition.left_out", ["b", "c"])
    assert line["unreadable"] == [f"unreadable:{lost}"]
    await stored.start(wishes[0])
    assert log_lines() == []
    del stored.nvram.records[partition_name(lost)]
    machine = await stored.start(*wishes)
    assert (list(machine.system.partitions), log_lines()) == (["a", "b", "c"], [])
