"""Damaged, swapped, foreign and missing records: each takes its own partition out of service, by name.

In process for every byte of the records, through the real file and the real recovery; through a
real server for some dozens of bytes and for each other sort of damage.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from hcall_client.calls import write_object
from hcall_client.console import (
    create_partition,
    ipl,
    power_off,
    power_on,
    set_attributes,
    show_health,
    show_partition,
)
from hcall_server.nvram.names import image_name, profile_name
from tests.faults.conftest import Serve
from tests.faults.damage import OS, copy_of, flipped, logged, make_state, put, records, refused, serves
from tests.service.folder import assembled

NAMES = [f"lpar{number}" for number in range(1, 17)]
GOOD = NAMES[-1]

REASONS = {
    NAMES[0]: "the image of partition 1: swapped: this is the image of partition 2",
    NAMES[1]: "the image of partition 2: swapped: this is the image of partition 1",
    NAMES[2]: "the image of partition 3: truncated",
    NAMES[3]: "the image of partition 4: 1 bytes too many",
    NAMES[4]: "the image of partition 5: says that it is the profile of partition 5",
    NAMES[5]: "the image of partition 6: does not authenticate",
    NAMES[6]: f"the image of partition {NAMES[6]} is of generation 1 and its profile goes with 2",
    NAMES[7]: f"the image of partition {NAMES[7]} is missing",
    "unreadable:9": "the profile of partition 9 is missing",
    "unreadable:10": "the profile of partition 10: swapped: this is the profile of partition 11",
    NAMES[11]: "the image of partition 12: truncated",
}
"""What a start says of each sort of damage that `test_every_other_sort_of_damage` does."""


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state of sixteen partitions, in good order."""
    return make_state(tmp_path_factory.mktemp("sound"), NAMES)


@pytest.fixture
def state(sound: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return copy_of(sound, tmp_path / "state")


def refused_at_boot(state: Path) -> dict[str, str]:
    """Which partitions a start refuses, and why; every other one has its object."""
    with assembled(state) as machine:
        partitions = machine.system.partitions.values()
        assert all(each.keystore is not None or each.refused for each in partitions)
        assert not machine.encryptor.pending
        return {each.name: each.refused.message for each in partitions if each.refused}


@pytest.mark.parametrize("record", [image_name(2), profile_name(2)], ids=["image", "profile"])
def test_every_byte_counts(state: Path, record: str) -> None:
    """R-02: one flipped bit in any byte of a record: its partition is refused and named, no other is."""
    whole = records(state)[record]
    what = record.rsplit("/", maxsplit=1)[-1]
    for byte in range(len(whole)):
        put(state, {record: flipped(whole, byte, byte % 8)})
        refused = refused_at_boot(state)
        assert len(refused) == 1, byte
        (message,) = refused.values()
        assert f"the {what} of partition 2: " in message
    assert records(state)[record] == flipped(whole, len(whole) - 1, (len(whole) - 1) % 8)
    put(state, {record: whole})
    assert not refused_at_boot(state)


@pytest.mark.process
@pytest.mark.parametrize("start", [0, 1, 2])
def test_a_flipped_bit_before_a_real_start(serve: Serve, state: Path, start: int) -> None:
    """R-02: fifteen images are hit at as many places; each is named as refused, the sixteenth serves."""
    before = records(state)
    damaged: dict[str, bytes | None] = {}
    for n, name in enumerate(map(image_name, range(1, 16))):
        whole = before[name]
        damaged[name] = flipped(whole, (n * 3 + start) * (len(whole) - 1) // 45, n % 8)
    put(state, damaged)
    server = serve(state)
    assert set(server.ready["refused"]) == set(NAMES) - {GOOD}
    assert server.ready["running"] == [GOOD]
    assert serves(server, GOOD)
    for number, name in enumerate(NAMES[:-1], 1):
        assert f"the image of partition {number}: " in server.ready["refused"][name]
    told = {line["partition"]: line for line in logged(server, "partition.refused")}
    assert {name: line["error"] for name, line in told.items()} == server.ready["refused"]
    assert {line["fault"] for line in told.values()} == {"storage"}
    for name in NAMES[:-1]:
        assert server.ready["refused"][name] in refused(server, power_on(name)).detail
    assert server.stop() == 0
    after = records(state)
    assert {name: after[name] for name in damaged} == damaged, "what was refused is left as it is"


def wreckage(blobs: dict[str, bytes], foreign: dict[str, bytes], older: bytes) -> dict[str, bytes | None]:
    """Every sort of damage but a flipped bit, one to a partition."""
    return {
        image_name(1): blobs[image_name(2)],
        image_name(2): blobs[image_name(1)],
        image_name(3): blobs[image_name(3)][:-7],
        image_name(4): blobs[image_name(4)] + b"x",
        image_name(5): blobs[profile_name(5)],
        image_name(6): foreign[image_name(1)],
        image_name(7): older,
        image_name(8): None,
        profile_name(9): None,
        profile_name(10): blobs[profile_name(11)],
        image_name(12): b"",
    }


@pytest.mark.process
def test_every_other_sort_of_damage(serve: Serve, state: Path, tmp_path: Path) -> None:
    """R-01, R-02, R-22: swapped, truncated, extended, foreign, older, missing: each with its reason."""
    (tmp_path / "other").mkdir()
    foreign = records(make_state(tmp_path / "other", [NAMES[5]]))
    older = records(state)[image_name(7)]
    server = serve(state)
    with server.connect_blocking(NAMES[6]) as channel:
        channel.call(write_object(OS, b"newer", b"x"))
    assert server.stop() == 0
    blobs = records(state)
    put(state, wreckage(blobs, foreign, older))
    wrecked = records(state)
    server.start()
    refused = server.ready["refused"]
    assert refused.keys() == REASONS.keys()
    assert {name: reason for name, reason in REASONS.items() if reason not in refused[name]} == {}
    for name in server.ready["running"]:
        assert serves(server, name)
    assert server.stop() == 0
    left = records(state)
    hit = [name for name in wrecked if int(name[10:15] or 0) in {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12}]
    assert {name: left[name] for name in hit} == {name: wrecked[name] for name in hit}


@pytest.mark.process
def test_the_console_leaves_a_refused_partition_as_it_is(serve: Serve, state: Path) -> None:
    """R-21: no verb of the console and no option of a start writes over what may still be rescued."""
    blobs = records(state)
    put(state, {image_name(1): flipped(blobs[image_name(1)], 99), profile_name(2): None, image_name(3): b"x"})
    wrecked = records(state)
    sizes = [f"{NAMES[0]}:8", f"{NAMES[2]}:0"]
    server = serve(state, sizes)
    assert list(server.ready["refused"]) == [NAMES[0], "unreadable:2", NAMES[2]]
    for name in server.ready["refused"]:
        for verb in (power_on, power_off, ipl):
            assert refused(server, verb(name)).rule
        assert refused(server, set_attributes(name, {"secure_boot": 2})).rule
        stored = server.console.call(show_partition(name)).keystore_kbytes
        for kbytes in {0, 4, 64} - {stored}:
            assert refused(server, set_attributes(name, {"keystore_kbytes": kbytes})).rule
        assert server.console.call(set_attributes(name, {"keystore_kbytes": stored})).refused
    assert refused(server, create_partition(NAMES[1])).rule
    assert not server.console.call(show_health()).ok
    assert server.stop() == 0
    left = records(state)
    hit = [name for name in wrecked if name[10:15] in {"00001", "00002", "00003"}]
    assert {name: left.get(name) for name in hit} == {name: wrecked[name] for name in hit}
    assert profile_name(2) not in left
