"""Random calls of three consumers in two partitions, through frames, against the plain model."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hcall_server.keystore.store import Keystore
from tests.guest import CONSUMERS, WRAPPING, Guest, make_partition
from tests.hcalls.model import Model
from tests.keystore.matrix import WRAPPED_WORDS
from tests.keystore.oracle import CALLERS_BITS, REVOCATION, Call

KBYTES = 4
WHERE = st.sampled_from([0, 1])
OWNERS = st.sampled_from(CONSUMERS)
NAMES = (b"a", b"b", b"label of 255".ljust(255, b"."))
LABELS = st.sampled_from(NAMES)
DATA = st.sampled_from([1, 40, 1500, 4000]).flatmap(lambda n: st.sampled_from([b"x" * n, b"\0" * n]))
WRITABLE = st.lists(st.sampled_from(CALLERS_BITS[:6]), unique=True, max_size=3).map(sum)
POLICIES = WRITABLE | WRITABLE | st.sampled_from([*CALLERS_BITS, 8, 2, 1])
KEY_POLICIES = (
    st.sampled_from([WRAPPING, WRAPPING, WRAPPING | 0x4000_0000, WRAPPING | 0x0200_0000]) | POLICIES
)
SECRET = b"what is wrapped"
PASSWORDS = st.sampled_from([b"", b"", b"one", b"two"])
RIGHT = st.sampled_from([True, True, True, False])


class Wrapped(NamedTuple):
    """What was wrapped: where, with what stands for the key, under which policy, and the object."""

    where: int
    key: bytes
    policy: int
    blob: bytes


class Side(NamedTuple):
    """A partition and the model of it."""

    guest: Guest
    model: Model

    @property
    def store(self) -> Keystore:
        store = self.guest.partition.keystore
        assert store is not None
        return store


def seen(policy: int, data: bytes) -> tuple[int, bytes | int]:
    """Of a wrapping key the model knows the length alone."""
    return policy, len(data) if policy & WRAPPING else data


def side(number: int) -> Side:
    level = ("FW950", "NEXT")[number]
    guest = Guest(make_partition(level, KBYTES, number=number + 1))
    return Side(guest, Model(KBYTES * 1024, level))


class TwoPartitions(RuleBasedStateMachine):
    """R-01, R-03, R-04, R-07, R-08, R-14, R-17, R-20, R-71, R-72: every answer is the model's.

    Calls go to one of two partitions; used space and what would be persisted are compared for both
    after each, so anything of one that showed in the other would be seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sides = (side(0), side(1))
        self.commits: list[tuple[int, int, int]] = []
        self.wrapped: list[Wrapped] = []

    def password(self, where: int, owner: int, right: bool, other: bytes) -> bytes:
        return self.sides[where].model.passwords.get(owner, b"") if right else other

    @rule(where=WHERE, owner=OWNERS, password=st.sampled_from([b"one", b"two"]))
    def set_password(self, where: int, owner: int, password: bytes) -> None:
        guest, model = self.sides[where]
        assert guest.set_password(owner, password).status == model.set_password(owner, password)

    @rule(where=WHERE, owner=OWNERS)
    def generate_password(self, where: int, owner: int) -> None:
        guest, model = self.sides[where]
        status, _, _, password = guest.gen_password(owner)
        assert status == model.set_password(owner, password)

    @rule(where=WHERE, owner=OWNERS, label=LABELS, data=DATA, policy=POLICIES, right=RIGHT, other=PASSWORDS)
    def write(
        self, where: int, owner: int, label: bytes, data: bytes, policy: int, right: bool, other: bytes
    ) -> None:
        guest, model = self.sides[where]
        password = self.password(where, owner, right, other)
        got = guest.write(owner, label, data, policy=policy, password=password)
        assert got == (model.write(owner, label, data, policy, password), 0, 0, b"")

    @rule(where=WHERE, owner=OWNERS, label=LABELS, room=st.integers(0, 4000), right=RIGHT, other=PASSWORDS)
    def read(self, where: int, owner: int, label: bytes, room: int, right: bool, other: bytes) -> None:
        guest, model = self.sides[where]
        password = self.password(where, owner, right, other)
        got = guest.read(owner, label, room=room, password=password)
        assert got == model.read(owner, label, room, password)

    @rule(where=WHERE, owner=OWNERS, label=LABELS, right=RIGHT, other=PASSWORDS)
    def remove(self, where: int, owner: int, label: bytes, right: bool, other: bytes) -> None:
        guest, model = self.sides[where]
        password = self.password(where, owner, right, other)
        got = guest.remove(owner, label, password=password)
        assert got == (model.remove(owner, label, password), 0, 0, b"")

    @rule(where=WHERE, owner=OWNERS, label=LABELS, policy=KEY_POLICIES, right=RIGHT, other=PASSWORDS)
    def gen_key(self, where: int, owner: int, label: bytes, policy: int, right: bool, other: bytes) -> None:
        guest, model = self.sides[where]
        password = self.password(where, owner, right, other)
        got = guest.gen_key(owner, label, policy=policy, password=password)
        assert got.status == model.gen_key(owner, label, policy, password)
        if got.written:
            assert not policy & WRAPPING
            model.returned(owner, label, got.written)

    @rule(
        where=WHERE,
        call=st.sampled_from(REVOCATION),
        owner=OWNERS,
        label=LABELS,
        right=RIGHT,
        other=PASSWORDS,
    )
    def revoke(self, where: int, call: Call, owner: int, label: bytes, right: bool, other: bytes) -> None:
        guest, model = self.sides[where]
        password = self.password(where, owner, right, other)
        change = guest.revoke if call is Call.REVOKE else guest.unrevoke
        got = change(owner, label, password=password)
        assert got[:2] == model.set_revoked(call, owner, label, password)

    @rule(
        where=WHERE, owner=OWNERS, label=LABELS, policy=st.sampled_from(WRAPPED_WORDS), right=RIGHT,
        other=PASSWORDS,
    )  # fmt: skip
    def wrap(self, where: int, owner: int, label: bytes, policy: int, right: bool, other: bytes) -> None:
        guest, model = self.sides[where]
        password = self.password(where, owner, right, other)
        got = guest.wrap(owner, label, SECRET, flags=(policy << 32) + 1, password=password)
        status, key = model.wrap(owner, label, password)
        assert got.status == status
        if got.written:
            self.wrapped.append(Wrapped(where, key, policy, got.written))

    @precondition(lambda self: self.wrapped)
    @rule(where=WHERE, owner=OWNERS, which=st.integers(0, 1000), right=RIGHT, other=PASSWORDS)
    def unwrap(self, where: int, owner: int, which: int, right: bool, other: bytes) -> None:
        guest, model = self.sides[where]
        password = self.password(where, owner, right, other)
        made, key, policy, blob = self.wrapped[which % len(self.wrapped)]
        status = model.unwrap(owner, key if made == where else b"", policy, password)
        expected = (0, 0, len(SECRET), SECRET) if status == 0 else (status, 0, 0, b"")
        assert guest.unwrap(owner, blob, password=password) == expected

    @rule(where=WHERE, right=RIGHT, other=PASSWORDS)
    def confirm_everything(self, where: int, right: bool, other: bytes) -> None:
        guest, model = self.sides[where]
        for owner in CONSUMERS:
            password = self.password(where, owner, right, other)
            for label in NAMES:
                got = guest.confirm(owner, label, password=password)
                assert got == (*model.confirm(owner, label, password), 0, b"")

    @rule(where=WHERE, owner=OWNERS, room=st.integers(257, 600), right=RIGHT, other=PASSWORDS)
    def labels(self, where: int, owner: int, room: int, right: bool, other: bytes) -> None:
        guest, model = self.sides[where]
        password = self.password(where, owner, right, other)
        expected = model.labels(owner, password)
        if expected is None:
            assert guest.labels(owner, room=room, password=password).status == -10
        else:
            assert guest.all_labels(owner, room=room, password=password) == expected

    @rule(where=WHERE, mode=st.sampled_from([0, 1, 2]))
    def ipl(self, where: int, mode: int) -> None:
        guest, model = self.sides[where]
        guest.ipl(mode)
        model.ipl(mode)

    @rule(where=WHERE)
    def begin_flush(self, where: int) -> None:
        """A snapshot is taken; the calls that follow are not in it."""
        commit = (
            where,
            self.sides[where].store.snapshot().generation,
            len(self.sides[where].model.unflushed),
        )
        self.commits = [each for each in self.commits if each[0] != where] + [commit]

    @precondition(lambda self: self.commits)
    @rule()
    def end_flush(self) -> None:
        where, generation, count = self.commits.pop(0)
        self.sides[where].store.mark_flushed(generation)
        del self.sides[where].model.unflushed[:count]

    @invariant()
    def used_space_is_told_truly(self) -> None:
        for guest, model in self.sides:
            assert guest.config(32).used == model.used

    @invariant()
    def what_would_be_persisted_is_the_models(self) -> None:
        for each in self.sides:
            objects = each.store.snapshot().objects
            found = {(held.consumer, held.label): seen(*held[2:]) for held in objects}
            assert found == {key: seen(*held) for key, held in each.model.persistent.items()}
            assert each.store.dirty == bool(each.model.unflushed)


TwoPartitions.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestTwoPartitions = TwoPartitions.TestCase
