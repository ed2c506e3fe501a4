"""The authorisation matrix end to end, in real frames and guest memory. Each row is one call."""

import functools
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from hcall_abi.calls import Opcode
from hcall_abi.consumers import Consumer
from hcall_abi.efi import StoredVariable, build_stored
from hcall_client.guests.authvar import variable_label
from hcall_server.keystore.image import StoredObject, StoreImage
from swpks.conformance.oracle import (
    BAD_POLICY,
    MADE_BY_HYPERVISOR,
    MAKERS,
    NOT_FOUND,
    REVOCATION,
    SIGNED_ONLY,
    UNTIL_IPL,
    WRAPPING_KEY,
    Presented,
    afterwards,
    answer,
)
from swpks.conformance.oracle import MatrixRow as Row
from swpks.conformance.oracle import OracleCall as Call
from tests.guest import CONSUMERS, Answer, Guest, auth_block, make_partition
from tests.keystore.matrix import (
    MODES,
    NEWEST,
    POSSIBLE_WORDS,
    SHAPES,
    STORED_WORDS,
    UNWRAPPING_WORDS,
    owners,
    rows,
)
from tests.secvar.keys import BEFORE, NOW, pk, update
from tests.wrapping import second

pytestmark = pytest.mark.usefixtures("not_measured")

NOT_STORED = UNTIL_IPL | MADE_BY_HYPERVISOR
PASSWORD = {1: b"the firmware's password", 2: b"the boot loader's word", 3: b"o" * 24}
DATA = b"what is kept"
HELD_WORDS = sorted({*STORED_WORDS, *UNWRAPPING_WORDS})
PLAIN = (Presented.NOTHING, Presented.RIGHT, Presented.WRONG)
READ_ALIKE = (Call.CONFIG, Call.READ, Call.CONFIRM, Call.WRAP, Call.UNWRAP)
SIGNED_WORDS = [word for word in POSSIBLE_WORDS if word & SIGNED_ONLY and not word & WRAPPING_KEY]
CASES = [(call, level, owner, mode) for call, level in SHAPES for owner in owners(level) for mode in MODES]


def label_of(word: int) -> bytes:
    return b"policy %08x" % word


def data_of(word: int) -> bytes:
    """Return the data of the object with this policy: a wrapping key has its own, all others the same."""
    return hashlib.sha256(label_of(word)).digest() if word & WRAPPING_KEY else DATA


def variable(word: int, *, exists: bool) -> str:
    """Return the name of the secure-boot variable that has this policy."""
    return f"policy {word:08x}" if exists else f"new {word:08x}"


@functools.cache
def signed(name: str) -> bytes:
    """Return an update of a variable that the holder of PK has signed. Cached, because RSA is slow."""
    return update(name, DATA)


def variables(owner: int) -> list[StoredObject]:
    """Return a PK, and a variable of every possible policy."""
    old = build_stored(StoredVariable(BEFORE, DATA))
    made = [(variable(word, exists=True), word, old) for word in SIGNED_WORDS]
    made.append(("PK", SIGNED_ONLY, pk().variable))
    return [StoredObject(owner, variable_label(name), word, data) for name, word, data in made]


@dataclass
class World:
    """A partition whose owner has one object for each policy word, and the contents that NVRAM must have."""

    guest: Guest
    objects: dict[bytes, StoredObject]
    gone: set[bytes] = field(default_factory=set)
    written: dict[bytes, StoredObject] = field(default_factory=dict)

    def counts(self) -> tuple[int, int, int]:
        store = self.guest.partition.keystore
        assert store is not None
        return store.contents.used, store.contents.generation, store.contents.object_count

    def image(self) -> StoreImage:
        store = self.guest.partition.keystore
        assert store is not None
        return store.contents.snapshot()

    def data(self, label: bytes) -> bytes:
        """Return the data of an object that the hypervisor made. If NVRAM has no such object, return b""."""
        return next((held.data for held in self.image().objects if held.label == label), b"")

    def expected(self) -> set[StoredObject]:
        """Return the objects that NVRAM must have after the calls so far."""
        left = {label: held for label, held in self.objects.items() if label not in self.gone}
        return {held for held in (left | self.written).values() if not held.policy & NOT_STORED}


def frames(kind: Call, level: str, owner: int, mode: int) -> Iterator[Row]:
    """Yield the rows that are sent.

    Of the rows with a refused policy word, a sample is enough: their other conditions have no effect.
    """
    for row in rows(kind, level, owner, mode):
        refused = kind in MAKERS and answer(row).status == BAD_POLICY
        if not refused or (row.presented in PLAIN and not row.exists):
            yield row


def build(kind: Call, level: str, owner: int, mode: int, *, password_set: bool) -> World:
    """Make a world in which the other two consumers have their passwords."""
    plain = [StoredObject(owner, label_of(word), word, data_of(word)) for word in HELD_WORDS]
    objects = {held.label: held for held in (variables(owner) if kind is Call.SIGNED else plain)}
    stored = [held for held in objects.values() if not held.policy & MADE_BY_HYPERVISOR]
    guest = Guest(make_partition(level, objects=stored, mode=mode))
    store = guest.partition.keystore
    assert store is not None
    for held in objects.values():
        if held.policy & MADE_BY_HYPERVISOR:
            store.contents.provide(Consumer(owner), *held[1:])
    for consumer in CONSUMERS:
        if consumer != owner or password_set:
            assert guest.set_password(consumer, PASSWORD[consumer]).status == 0
    return World(guest, objects)


def presented(row: Row) -> bytes:
    """Return the password that the row puts into the authorization block."""
    own = PASSWORD[row.owner]
    match row.presented:
        case Presented.NOTHING:
            return b""
        case Presented.RIGHT:
            return own
        case Presented.WRONG:
            return own[:-1] + b"?"
        case Presented.SHORTER:
            return own[:-1]
        case Presented.LONGER:
            return own + b"\0"
        case Presented.ANOTHERS:
            return PASSWORD[row.owner % 3 + 1]


def call(guest: Guest, row: Row) -> Answer:
    """Send the row as a frame. If the row has no object, its label is a new one."""
    label = label_of(row.word) if row.exists else b"new %08x" % row.word
    password = presented(row)
    match row.call:
        case Call.CONFIG:
            return guest.do(Opcode.GET_CONFIG, config=520)
        case Call.SET_PASSWORD:
            return guest.set_password(row.owner, b"a new password")
        case Call.GEN_PASSWORD:
            return guest.gen_password(row.owner)
        case Call.LIST:
            return guest.labels(row.owner, password=password, room=65536)
        case Call.WRITE:
            return guest.write(row.owner, label, DATA, policy=row.word, password=password)
        case Call.KEY:
            return guest.gen_key(row.owner, label, policy=row.word, password=password)
        case Call.READ:
            return guest.read(row.owner, label, password=password)
        case Call.REMOVE:
            return guest.remove(row.owner, label, password=password)
        case Call.CONFIRM:
            return guest.confirm(row.owner, label, password=password)
    return call_about_keys(guest, row, label, password)


def call_signed(guest: Guest, row: Row, password: bytes) -> Answer:
    """Send a valid signed update of a variable. Only the conditions of the row can refuse it."""
    name = variable(row.word, exists=row.exists)
    auth, label = auth_block(row.owner, password), variable_label(name)
    values: dict[str, int | bytes] = {
        "authorization": auth,
        "label": label,
        "policy": row.word,
        "data": signed(name),
    }
    return guest.do(Opcode.SIGNED_UPDATE, **values)


def call_about_keys(guest: Guest, row: Row, label: bytes, password: bytes) -> Answer:
    """Send a row whose call uses or changes a wrapping key, or is a signed update."""
    match row.call:
        case Call.WRAP:
            return guest.wrap(row.owner, label, DATA, password=password)
        case Call.UNWRAP:
            key = data_of(row.word) if row.exists else bytes(32)
            wrapped = second.wrap(key, DATA, (row.wrapped << 32) + 1)
            return guest.unwrap(row.owner, wrapped, password=password)
        case Call.REVOKE:
            return guest.revoke(row.owner, label, password=password)
        case Call.SIGNED:
            return call_signed(guest, row, password)
    return guest.unrevoke(row.owner, label, password=password)


def expected(row: Row, got: Answer) -> Answer:
    """Return the expected answer of a row. Only a granted call may write to guest memory."""
    status, shown = answer(row)
    match row.call:
        case Call.READ if status == 0:
            return Answer(0, len(DATA), shown, DATA)
        case Call.REVOKE | Call.UNREVOKE:
            return Answer(status, shown)
        case Call.CONFIG if status == 0:
            return Answer(0, 0, 0, got.written.ljust(520))
        case Call.KEY if status == 0:
            return Answer(0, 0, 0, b"" if row.word & WRAPPING_KEY else got.written.ljust(32))
        case Call.WRAP if status == 0:
            return Answer(0, 0, len(DATA) + 1024, got.written.ljust(len(DATA) + 1024))
        case Call.UNWRAP if status == 0:
            return Answer(0, 0, len(DATA), DATA)
        case Call.CONFIRM:
            return Answer(status, int(status in {0, NOT_FOUND}))
        case Call.LIST if status == 0:
            return Answer(0, len(HELD_WORDS), 0, got.written)
        case Call.GEN_PASSWORD if status == 0:
            return Answer(0, 0, 0, got.written)
    return Answer(status, 0, shown)


def note(world: World, row: Row, status: int, before: tuple[int, int, int]) -> bool:
    """Record the changes of a successful call; return whether space, generation and count are right."""
    used, generation, count = before
    persistent = int(not row.word & NOT_STORED)
    if status == 0 and row.call in (Call.WRITE, Call.KEY):
        label = b"new %08x" % row.word
        data = DATA if row.call is Call.WRITE else world.data(label)
        world.written[label] = StoredObject(row.owner, label, row.word, data)
        size = len(DATA) if row.call is Call.WRITE else 32
        return world.counts() == (used + len(label) + size + 32, generation + persistent, count + 1)
    if status == 0 and row.call is Call.SIGNED:
        label = variable_label(variable(row.word, exists=row.exists))
        data = build_stored(StoredVariable(NOW, DATA))
        world.written[label] = StoredObject(row.owner, label, row.word, data)
        size = 0 if row.exists else len(label) + len(data) + 32
        return world.counts() == (used + size, generation + persistent, count + (not row.exists))
    if status == 0 and row.call is Call.REMOVE:
        label = label_of(row.word)
        world.gone.add(label)
        size = len(label) + len(data_of(row.word)) + 32
        return world.counts() == (used - size, generation + persistent, count - 1)
    if status == 0 and row.call in REVOCATION:
        label = label_of(row.word)
        world.objects[label] = world.objects[label]._replace(policy=afterwards(row))
        changed = persistent if afterwards(row) != row.word else 0
        return world.counts() == (used, generation + changed, count)
    return world.counts() == before


@pytest.mark.parametrize(
    "kind,level,owner,mode", CASES, ids=[f"{c[0].name}-{c[1]}-{c[2]}-{c[3]}" for c in CASES]
)
def test_every_row_is_answered_as_the_oracle_says(kind: Call, level: str, owner: int, mode: int) -> None:
    """R-17, R-03, R-08, R-10 to R-13, R-15, R-16, R-74: Each row gets the oracle's answer.

    A refusal changes nothing.
    """
    wrong: list[object] = []
    worlds: dict[object, World] = {}
    for row in frames(kind, level, owner, mode):
        key = (row.password_set, None if kind in READ_ALIKE else row.presented)
        if key not in worlds or "PASSWORD" in kind.name:
            worlds[key] = build(kind, level, owner, mode, password_set=row.password_set)
        world = worlds[key]
        before = world.counts()
        got = call(world.guest, row)
        if got != expected(row, got) or not note(world, row, got.status, before):
            wrong.append((row, got))
    assert wrong == []
    for world in worlds.values():
        assert set(world.image().objects) == world.expected()


def test_every_row_of_the_matrix_is_a_frame() -> None:
    """R-17: The rows are more than 40,000 frames, and the store has an object for each policy word."""
    assert sum(1 for case in CASES for _ in frames(*case)) > 40_000
    world = build(Call.READ, NEWEST, 3, 0, password_set=True)
    assert len(world.image().objects) == sum(not word & NOT_STORED for word in HELD_WORDS)


@pytest.mark.parametrize("word", [0, 0x0400_0000, 0x0200_0000, 0x0100_0000, 0x0080_0000])
def test_no_write_overwrites_whatever_the_policies(word: int) -> None:
    """R-08, R-12: WRITE over an existing label is refused, whatever the two policies are."""
    held = StoredObject(3, b"taken", word, DATA)
    guest = Guest(make_partition(objects=[held], mode=2))
    for asked in (0, 0x0800_0000, 0x0200_0000, 0x0400_0000):
        assert guest.write(3, b"taken", b"other", policy=asked) == Answer(-16)
    assert guest.config().used == len(b"taken") + len(DATA) + 32


def test_a_refused_policy_word_is_told_before_the_password() -> None:
    """R-17: A bad policy word with a wrong password gives H_P4, because arguments are checked first."""
    guest = Guest(make_partition())
    guest.set_password(3, PASSWORD[3])
    for word in (0x0100_0000, 0x0080_0000, 0x8000_0000, 0x1, 0x8, 0x2):
        assert guest.write(3, b"x", b"y", policy=word, password=b"wrong") == Answer(-57)
        assert guest.refusals[-1].argument == "policy"


def test_the_caller_is_not_the_owner_of_what_it_reads() -> None:
    """R-11: a world-readable object of firmware is read with firmware's number and no password."""
    guest = Guest(make_partition())
    guest.set_password(1, PASSWORD[1])
    guest.write(1, b"open", b"for all", policy=0x0800_0000, password=PASSWORD[1])
    block = auth_block(1)
    got = guest.do(Opcode.READ_OBJECT, authorization=block, label=b"open", data=64)
    assert got == Answer(0, 7, 0x0800_0000, b"for all")
    assert guest.remove(1, b"open") == Answer(-10)
    assert guest.write(1, b"another", b"x") == Answer(-10)
