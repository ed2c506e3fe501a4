"""Boot: the state folder, the anchor card, what settings make of what is remembered; passed sockets."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hcall_abi.consumers import SecureBoot
from hcall_abi.errors import OperatorError, StorageError, SwpksError
from hcall_abi.levels import LEVELS
from hcall_server.components.anchor_card import SystemIdentity
from hcall_server.data_channel.listeners import assign
from hcall_server.data_channel.sockets import listen_unix, passed_sockets, remove_stale
from hcall_server.keystore.signed import LatchUse
from hcall_server.nvram.names import SYSTEM, image_name, profile_name
from hcall_server.platform.attributes import Attributes
from hcall_server.platform.partition import Partition
from hcall_server.sealing import seal_image, seal_profile, seal_system
from hcall_server.service.boot import Booted, boot, identity_of, provide_key
from hcall_server.service.settings import PartitionSettings, Settings
from hcall_server.service.state import State
from tests.data_channel.support import make_machine

Boot = Callable[..., Booted]


@pytest.fixture
def booted(tmp_path: Path) -> Iterator[Boot]:
    """Boots one state again and again; what was booted before is persisted and let go first."""
    alive: list[Booted] = []

    def release() -> None:
        for each in alive:
            each.nvram.close()
            each.state.close()
        alive.clear()

    def start(*wishes: PartitionSettings, **fields: object) -> Booted:
        for each in alive:
            persist(each)
        release()
        alive.append(boot(tmp_path / "state", Settings(partition=wishes, **fields), os.urandom))  # type: ignore[arg-type]
        return alive[0]

    yield start
    release()


def persist(booted: Booted) -> None:
    """What the encryptor would write of a booted system."""
    records: dict[str, bytes | None] = {SYSTEM: seal_system(booted.sealer, booted.record)}
    for each in booted.touched:
        store = each.keystore
        records[profile_name(each.number)] = seal_profile(
            booted.sealer, each.profile(), store.generation if store else 0
        )
        records[image_name(each.number)] = (
            seal_image(booted.sealer, each.number, store.snapshot()) if store else None
        )
    booted.nvram.commit(records)


def test_a_new_system_is_made_once(booted: Boot) -> None:
    """R-30: a partition asked for is made and remembered; the identity of the system stays."""
    first = booted(PartitionSettings("a", 8), PartitionSettings("plain"))
    assert (first.remembered, [each.name for each in first.touched]) == (False, ["a", "plain"])
    assert first.system.find("plain").keystore is None
    second = booted(PartitionSettings("a", 8))
    assert (second.remembered, second.touched) == (True, [])
    assert list(second.system.partitions) == ["a", "plain"]
    assert second.system.system_id == first.system.system_id


def test_wishes_change_what_is_remembered(booted: Boot) -> None:
    """R-32: growing, the mode of the next IPL, whether it starts by itself."""
    booted(PartitionSettings("a", 8))
    again = booted(PartitionSettings("a", 16, auto_start=False, secure_boot="enforce"))
    found = again.system.find("a")
    assert [each.name for each in again.touched] == ["a"]
    assert (found.kbytes, found.auto_start, found.next_secure_boot) == (16, False, SecureBoot.ENFORCE)
    kept = booted(PartitionSettings("a")).system.find("a")
    assert (kept.kbytes, kept.auto_start, kept.next_secure_boot) == (16, False, SecureBoot.ENFORCE)


@pytest.mark.parametrize(
    "wish,rule",
    [
        (PartitionSettings("a", 4), "never shrinks"),
        (PartitionSettings("b", 3), "4 to 128 KiB"),
        (PartitionSettings("b", 129), "4 to 128 KiB"),
        (PartitionSettings("control", 4), "name"),
        (PartitionSettings("../b", 4), "name"),
    ],
)
def test_an_impossible_wish_stops_the_start(booted: Boot, wish: PartitionSettings, rule: str) -> None:
    """R-31, R-32: the console's own refusals, and nothing is changed."""
    booted(PartitionSettings("a", 8))
    with pytest.raises(OperatorError, match=rule):
        booted(wish)


def test_attributes_are_remembered(booted: Boot) -> None:
    """R-36: what the settings do not name stays; a restart never arms the used-up latch again."""
    armed = PartitionSettings(
        "a", 8, keystore_signed_updates=1, keystore_signed_updates_without_verification=1
    )
    assert booted(armed).system.find("a").attributes == Attributes(True, True, False)
    again = booted(PartitionSettings("a", linux_dynamic_key_secure_boot=1))
    partition = again.system.find("a")
    assert partition.attributes == Attributes(True, True, True)
    partition.disarm_without_verification(LatchUse.PK_TAKEN)
    partition = booted(armed).system.find("a")
    assert partition.attributes == Attributes(True, False, True)
    assert partition.level.calls == LEVELS["FW1110"].calls


def test_the_level_and_the_total_are_remembered(booted: Boot) -> None:
    """R-34, R-74: a system keeps its level; another level brings its own total."""
    assert booted(firmware="FW950").system.total_kbytes == 1024
    assert booted(system_total_kbytes=512).record == ("FW950", 512)
    assert booted().record == ("FW950", 512)
    assert booted(firmware="FW1110").record == ("FW1110", 16 * 1024)


def test_a_lost_system_record_stops_the_start(booted: Boot) -> None:
    """What is missing is not made up while other records are there."""
    first = booted(PartitionSettings("a", 8))
    persist(first)
    first.nvram.commit({SYSTEM: None})
    first.touched.clear()
    first.nvram.commit({SYSTEM: None})
    first.nvram.close()
    first.state.close()
    with pytest.raises(StorageError, match="the system record is missing"):
        boot(first.state.folder, Settings(), os.urandom)


class Card:
    """An anchor card in memory."""

    name = "anchor card"

    def __init__(self) -> None:
        self.held: SystemIdentity | None = None

    def read(self) -> SystemIdentity | None:
        return self.held

    def write(self, identity: SystemIdentity) -> None:
        self.held = identity


def test_a_root_key_is_made_only_for_an_empty_nvram() -> None:
    """R-02: what another key sealed is not buried under a new one."""
    card = Card()
    with pytest.raises(StorageError, match="the anchor card is missing, and NVRAM holds 1 records"):
        identity_of(card, {"system": b""}, os.urandom)
    assert card.held is None
    made = identity_of(card, {}, os.urandom)
    assert identity_of(card, {"system": b""}, os.urandom) == made
    assert made.root_key.hex() not in repr(made)


def test_access_keys_are_made_and_kept(tmp_path: Path) -> None:
    """One for each partition, 32 random bytes; a damaged or readable file is refused, not replaced."""
    state = State(tmp_path / "state")
    key = provide_key(state, "a", os.urandom)
    path = state.folder / "access-keys" / "a.key"
    assert provide_key(state, "a", os.urandom) == key == bytes.fromhex(path.read_text())
    path.with_name("b.key.new").mkdir()
    with pytest.raises(StorageError, match="the access key of b can't be written"):
        provide_key(state, "b", os.urandom)
    path.chmod(0o640)
    with pytest.raises(OperatorError, match="readable by others"):
        state.access_key("a")
    path.chmod(0o600)
    for content in (b"", b"zz" * 32, b"00" * 31, b"00" * 33, b"\xff" * 64):
        path.write_bytes(content)
        with pytest.raises(OperatorError, match="holds no access key"):
            state.access_key("a")
    state.close()


def test_one_state_has_one_server(tmp_path: Path) -> None:
    """The second one is told the process of the first; after its end the state is free."""
    first = State(tmp_path / "state")
    with pytest.raises(OperatorError, match=f"process {os.getpid()}"):
        State(tmp_path / "state")
    first.close()
    State(tmp_path / "state").close()


def test_a_state_that_can_not_be_written(tmp_path: Path) -> None:
    """A file where the folder should be."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SwpksError):
        State(tmp_path / "file")
    with pytest.raises(SwpksError):
        State(tmp_path / "file" / "state")


def test_only_sockets_are_cleared_away(tmp_path: Path) -> None:
    """A file in a socket's place is somebody's mistake, and stays."""
    path = tmp_path / "a.sock"
    listen_unix(path).close()
    listen_unix(path).close()
    remove_stale(path)
    remove_stale(path)
    path.write_text("precious")
    with pytest.raises(OperatorError, match="is in the way"):
        listen_unix(path)
    assert path.read_text() == "precious"


def test_sockets_passed_to_another_process_are_not_ours() -> None:
    """LISTEN_PID tells for whom they are."""
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
    """An error of whoever starts the server; no descriptor is guessed at."""
    with pytest.raises(OperatorError):
        passed_sockets(environment | {"LISTEN_PID": "2"}, 2)


def partitions(*names: str) -> list[Partition]:
    """Some partitions."""
    return list(make_machine(*names).system.partitions.values())


def test_passed_sockets_are_sorted_by_name() -> None:
    """That of a partition, `tcp` for all of them, `control`; one alone needs no name."""
    made = [socket.socket() for _ in range(4)]
    names = ["beta", "tcp", "control", "tcp"]
    private, common, control = assign(list(zip(names, made, strict=True)), partitions("alpha", "beta"))
    assert (private, common, control) == ({"beta": made[0]}, [made[1], made[3]], made[2])
    assert assign([("", made[0])], partitions("alpha"))[0] == {"alpha": made[0]}
    for wrong in ([("", made[0])], [("gamma", made[0])], [("beta", made[0]), ("beta", made[1])]):
        with pytest.raises(OperatorError):
            assign(wrong, partitions("alpha", "beta"))
    with pytest.raises(OperatorError):
        assign([("control", made[0]), ("control", made[1])], partitions("alpha"))
    for each in made:
        each.close()


def test_an_open_touches_no_key_file(booted: Boot) -> None:
    """R-01: keys are read at start: a file spoiled later costs no connection, and a stand-in has no key."""
    found = booted(PartitionSettings("a", 8))
    partition = found.system.find("a")
    key = found.access_keys(partition)
    (found.state.folder / "access-keys" / "a.key").chmod(0o644)
    assert found.access_keys(partition) == key
    assert key.hex() not in repr(found.access_keys)
    partition.name_unknown = True
    assert found.access_keys(partition) == b""


def test_a_total_below_what_is_stored_stops_the_start(booted: Boot) -> None:
    """R-34: neither a smaller total nor a smaller level lets the keystores outgrow the system."""
    persist(booted(PartitionSettings("a", 64), PartitionSettings("b", 64)))
    with pytest.raises(OperatorError, match="take 128 KiB, and the system's total is 100"):
        booted(system_total_kbytes=100)
    assert booted(system_total_kbytes=128).system.total_kbytes == 128
