"""Random calls of three consumers in two partitions, as frames, are compared with the plain model."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hcall_server.keystore.store import Keystore
from swpks.conformance.oracle import CALLERS_BITS
from tests.guest import CONSUMERS, Guest, make_partition
from tests.hcalls.model import Model

KBYTES = 4
WHERE = st.sampled_from([0, 1])
OWNERS = st.sampled_from(CONSUMERS)
NAMES = (b"a", b"b", b"label of 255".ljust(255, b"."))
LABELS = st.sampled_from(NAMES)
DATA = st.sampled_from([1, 40, 1500, 4000]).flatmap(lambda n: st.sampled_from([b"x" * n, b"\0" * n]))
WRITABLE = st.lists(st.sampled_from(CALLERS_BITS[:6]), unique=True, max_size=3).map(sum)
POLICIES = WRITABLE | WRITABLE | st.sampled_from([*CALLERS_BITS, 8, 2, 1])
PASSWORDS = st.sampled_from([b"", b"", b"one", b"two"])
RIGHT = st.sampled_from([True, True, True, False])


class Side(NamedTuple):
    """A partition and its model."""

    guest: Guest
    model: Model

    @property
    def store(self) -> Keystore:
        store = self.guest.partition.keystore
        assert store is not None
        return store


def side(number: int) -> Side:
    level = ("FW950", "FW1110")[number]
    guest = Guest(make_partition(level, KBYTES, number=number + 1))
    return Side(guest, Model(KBYTES * 1024, level))


class TwoPartitions(RuleBasedStateMachine):
    """R-01, R-03, R-04, R-07, R-08, R-14, R-17, R-20: Any order of calls gives the model's answers.

    Each call goes to one of two partitions. Afterwards used space and stored objects of both are compared.
    So an effect of one partition on the other is found.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sides = (side(0), side(1))
        self.commits: list[tuple[int, int, int]] = []

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
        """Take a snapshot for a flush that ends later. Later calls are not in it."""
        commit = (
            where,
            self.sides[where].store.contents.snapshot().generation,
            len(self.sides[where].model.unflushed),
        )
        self.commits = [each for each in self.commits if each[0] != where] + [commit]

    @precondition(lambda self: self.commits)
    @rule()
    def end_flush(self) -> None:
        where, generation, count = self.commits.pop(0)
        self.sides[where].store.contents.mark_flushed(generation)
        del self.sides[where].model.unflushed[:count]

    @invariant()
    def used_space_is_told_truly(self) -> None:
        for guest, model in self.sides:
            assert guest.config(32).used == model.used

    @invariant()
    def what_would_be_persisted_is_the_models(self) -> None:
        for each in self.sides:
            objects = each.store.contents.snapshot().objects
            assert {(held.consumer, held.label): held[2:] for held in objects} == each.model.persistent
            assert each.store.contents.dirty == bool(each.model.unflushed)


TwoPartitions.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestTwoPartitions = TwoPartitions.TestCase
