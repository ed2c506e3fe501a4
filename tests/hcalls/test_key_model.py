"""Random histories of wrapping keys and wrapped objects, as frames, are compared with the model."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hcall_server.keystore.store import Keystore
from swpks.conformance.oracle import REVOCATION
from swpks.conformance.oracle import OracleCall as Call
from tests.guest import WRAPPING, Guest, make_partition
from tests.hcalls.model import Key, Model
from tests.keystore.matrix import WRAPPED_WORDS

OWNERS = st.sampled_from([1, 3, 3])
NAMES = st.tuples(OWNERS, st.sampled_from([b"a", b"b"]))
WHICH = st.integers(0, 5)
POLICIES = st.sampled_from(
    [WRAPPING] * 3 + [WRAPPING | bit for bit in (0x4000_0000, 0x1000_0000, 0x0200_0000)]
)
ODD_POLICIES = st.sampled_from([0, 0x0800_0000, WRAPPING | 0x0800_0000, WRAPPING | 2, 0x0100_0000])
PASSWORDS = {1: b"firmware's", 3: b"system's"}
RIGHT = st.sampled_from([True] * 7 + [False])
SECRET = b"what is wrapped"


class Wrapped(NamedTuple):
    """A wrapped object: its consumer, the model's bytes for its key, its policy, and its own bytes."""

    owner: int
    key: bytes
    policy: int
    blob: bytes


class Keys(RuleBasedStateMachine):
    """R-14, R-16, R-20, R-71, R-72: The engine gives the model's answers, also over IPLs and removals."""

    def __init__(self) -> None:
        super().__init__()
        self.guest = Guest(make_partition("NEXT", 4))
        self.model = Model(4096, "NEXT")
        self.wrapped: list[Wrapped] = []

    @property
    def store(self) -> Keystore:
        store = self.guest.partition.keystore
        assert store is not None
        return store

    def password(self, owner: int, right: bool) -> bytes:
        return self.model.passwords.get(owner, b"") if right else b"wrong"

    def aimed(self, name: Key, which: int) -> Key:
        """Return the name of an existing object, or the given name."""
        names = list(self.model.objects)
        return names[which % len(names)] if names and which else name

    @initialize(name=NAMES)
    def begin(self, name: Key) -> None:
        """Begin with a password and a key, which most histories need."""
        self.set_password(3)
        self.gen_key(name, WRAPPING, True)

    @rule(owner=OWNERS)
    def set_password(self, owner: int) -> None:
        password = PASSWORDS[owner]
        assert self.guest.set_password(owner, password).status == self.model.set_password(owner, password)

    @rule(name=NAMES, policy=POLICIES | POLICIES | ODD_POLICIES, right=RIGHT)
    def gen_key(self, name: Key, policy: int, right: bool) -> None:
        password = self.password(name[0], right)
        got = self.guest.gen_key(*name, policy=policy, password=password)
        assert got.status == self.model.gen_key(*name, policy, password)
        assert bool(got.written) == (got.status == 0 and not policy & WRAPPING)
        if got.written:
            self.model.returned(*name, got.written)

    @rule(name=NAMES, which=WHICH, policy=st.sampled_from(WRAPPED_WORDS), right=RIGHT)
    def wrap(self, name: Key, which: int, policy: int, right: bool) -> None:
        name = self.aimed(name, which)
        password = self.password(name[0], right)
        got = self.guest.wrap(*name, SECRET, flags=(policy << 32) + 1, password=password)
        status, key = self.model.wrap(*name, password)
        assert got.status == status
        if got.written:
            self.wrapped.append(Wrapped(name[0], key, policy, got.written))

    @precondition(lambda self: self.wrapped)
    @rule(which=st.integers(0, 100), another=OWNERS, own=RIGHT, right=RIGHT)
    def unwrap(self, which: int, another: int, own: bool, right: bool) -> None:
        owner, key, policy, blob = self.wrapped[which % len(self.wrapped)]
        owner = owner if own else another
        password = self.password(owner, right)
        status = self.model.unwrap(owner, key, policy, password)
        expected = (0, 0, len(SECRET), SECRET) if status == 0 else (status, 0, 0, b"")
        assert self.guest.unwrap(owner, blob, password=password) == expected

    @rule(call=st.sampled_from(REVOCATION), name=NAMES, which=WHICH, right=RIGHT)
    def revoke(self, call: Call, name: Key, which: int, right: bool) -> None:
        name = self.aimed(name, which)
        password = self.password(name[0], right)
        change = self.guest.revoke if call is Call.REVOKE else self.guest.unrevoke
        assert change(*name, password=password)[:2] == self.model.set_revoked(call, *name, password)

    @rule(name=NAMES, right=RIGHT)
    def read(self, name: Key, right: bool) -> None:
        password = self.password(name[0], right)
        got = self.guest.read(*name, room=100, password=password)
        assert got == self.model.read(*name, 100, password)

    @rule(name=NAMES, right=RIGHT)
    def remove(self, name: Key, right: bool) -> None:
        password = self.password(name[0], right)
        assert self.guest.remove(*name, password=password).status == self.model.remove(*name, password)

    @rule(name=NAMES, right=RIGHT)
    def confirm(self, name: Key, right: bool) -> None:
        password = self.password(name[0], right)
        assert self.guest.confirm(*name, password=password)[:2] == self.model.confirm(*name, password)

    @rule(mode=st.sampled_from([0, 1, 2]))
    def ipl(self, mode: int) -> None:
        self.guest.ipl(mode)
        self.model.ipl(mode)

    @rule()
    def flush(self) -> None:
        self.guest.flush()
        self.model.unflushed.clear()

    @invariant()
    def what_would_be_persisted_is_the_models(self) -> None:
        objects = self.store.contents.snapshot().objects
        found = {(held.consumer, held.label): seen(*held[2:]) for held in objects}
        assert found == {key: seen(*held) for key, held in self.model.persistent.items()}
        assert self.store.contents.used == self.model.used
        assert self.store.contents.dirty == bool(self.model.unflushed)


def seen(policy: int, data: bytes) -> tuple[int, bytes | int]:
    """Return policy and data. For a wrapping key, return its length in place of the data."""
    return policy, len(data) if policy & WRAPPING else data


Keys.TestCase.settings = settings(max_examples=80, stateful_step_count=40)
TestKeys = Keys.TestCase
