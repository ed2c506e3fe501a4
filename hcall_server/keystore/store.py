"""The keystore of one partition: every operation on objects, at once and in memory.

Each operation runs to its end without waiting, so calls have one order and none sees half of
another.  The order of checks is fixed: password, existence, policy, space; argument shapes have
been checked by then.  A refused operation raises `Refusal` and changes nothing.

`generation` counts the changes that belong in NVRAM.  Write-behind seals a `snapshot`, commits it
and tells `mark_flushed`; until then an object whose generation is newer is pending (R-20).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hcall_abi.calls import Opcode
from hcall_abi.consumers import Consumer, SecureBoot
from hcall_abi.policies import Policy
from hcall_abi.statuses import Status
from hcall_server.keystore.authority import Verdict, authorise
from hcall_server.keystore.image import StoredObject, StoreImage
from hcall_server.keystore.limits import Limits
from hcall_server.keystore.listings import Listings, fitting
from hcall_server.keystore.passwords import Passwords
from hcall_server.keystore.refusal import Refusal

Entropy = Callable[[int], bytes]
"""Returns that many random bytes: the seam through which all randomness comes."""

MAX_PENDING_REMOVALS = 4096
"""How many removals are pending by name; beyond it every absent label is pending until the next flush."""

_TRANSIENT = int(Policy.TRANSIENT)
_READ = Opcode.READ_OBJECT
_ALLOWED = Verdict.ALLOWED
_Key = tuple[int, bytes]


class Held:
    """An object in memory, with the generation at which it was written."""

    __slots__ = ("data", "generation", "policy")

    def __init__(self, policy: int, data: bytes, generation: int) -> None:
        self.policy = policy
        self.data = data
        self.generation = generation

    def __repr__(self) -> str:
        return f"Held(policy=0x{self.policy:08X}, {len(self.data)} bytes, generation {self.generation})"


class Keystore:
    """The objects and passwords of one partition.

    `entropy` makes generated passwords.  `image`, if given, is what NVRAM held; it counts as
    flushed.  Without one the store is empty, and `replaces` is the generation of the store that
    this partition had before (0: none): until the empty store is durable, what that one held may
    come back, so the absence of every label is pending.
    """

    def __init__(
        self, limits: Limits, entropy: Entropy, image: StoreImage | None = None, *, replaces: int = 0
    ) -> None:
        self.limits = limits
        self.secure_boot = SecureBoot.OFF
        self.passwords = Passwords()
        self.listings = Listings()
        self.flushed = image.generation if image else replaces
        self.generation = self.flushed + (1 if replaces and not image else 0)
        self.awaited = 0
        self.used = 0
        self._entropy = entropy
        self._objects: dict[_Key, Held] = {}
        self._removed: dict[_Key, int] = {}
        self._unnamed_removals = self.generation if not image else 0
        for consumer, label, policy, data in image.objects if image else ():
            self._objects[consumer, label] = Held(policy, data, self.generation)
            self.used += self._cost(label, data)

    def __repr__(self) -> str:
        return f"Keystore({len(self._objects)} objects, {self.used} of {self.limits.total_size} bytes)"

    @property
    def dirty(self) -> bool:
        """Whether something in memory is not known to be durable."""
        return self.generation != self.flushed

    @property
    def object_count(self) -> int:
        """How many objects there are, of all consumers."""
        return len(self._objects)

    # Life of the store

    def ipl(self, secure_boot: SecureBoot) -> None:
        """Start a new IPL: passwords and TRANSIENT objects are gone, the secure-boot mode counts."""
        self.secure_boot = secure_boot
        self.passwords.reset()
        self.listings.clear()
        for key, held in list(self._objects.items()):
            if held.policy & _TRANSIENT:
                self._drop(key)

    def grow(self, limits: Limits) -> None:
        """Take new limits; the caller has checked that the store does not shrink."""
        self.limits = limits

    def snapshot(self) -> StoreImage:
        """Return what belongs in NVRAM now: every object but TRANSIENT ones."""
        return StoreImage(
            self.generation,
            tuple(
                StoredObject(consumer, label, held.policy, held.data)
                for (consumer, label), held in self._objects.items()
                if not held.policy & _TRANSIENT
            ),
        )

    def mark_flushed(self, generation: int) -> None:
        """Note that the snapshot of `generation` is durable."""
        self.flushed = max(self.flushed, generation)
        self._removed = {key: when for key, when in self._removed.items() if when > self.flushed}

    # Operations of the h-calls

    def generate_password(self, consumer: Consumer, length: int) -> bytes:
        """Make, set and return a random password of `length` bytes (R-05)."""
        password = self._entropy(length)
        self.passwords.set(consumer, password)
        return password

    def write(self, consumer: Consumer, password: bytes, label: bytes, policy: int, data: bytes) -> None:
        """Make a new object; an existing label is never overwritten (R-08)."""
        self._authenticate(Opcode.WRITE_OBJECT, consumer, password)
        key = (int(consumer), label)
        if key in self._objects:
            raise Refusal(
                Status.H_RESOURCE,
                "the label is taken",
                rule="a write never overwrites; remove the object first",
                section="spec/hcalls/write_object.md#checks",
            )
        self._authorise(Opcode.WRITE_OBJECT, consumer, policy, password)
        cost = self._cost(label, data)
        if self.used + cost > self.limits.total_size:
            raise Refusal(
                Status.H_NO_MEM,
                f"{cost} bytes do not fit: {self.used} of {self.limits.total_size} are used",
                rule="label, data and overhead of all objects stay within the store",
                section="spec/policies.md#space",
            )
        if not policy & _TRANSIENT:
            self.generation += 1
        self._objects[key] = Held(policy, data, self.generation)
        self.used += cost

    def read(self, consumer: Consumer, password: bytes, label: bytes) -> Held:
        """Return an object that the caller may read."""
        held = self._objects.get((consumer, label))
        self._authorise(_READ, consumer, held.policy if held else None, password)
        if held is None:
            raise _not_found(Opcode.READ_OBJECT)
        return held

    def remove(self, consumer: Consumer, password: bytes, label: bytes) -> None:
        """Remove an object; the removal too is pending until it is flushed."""
        self._authenticate(Opcode.REMOVE_OBJECT, consumer, password)
        key = (int(consumer), label)
        held = self._objects.get(key)
        if held is None:
            raise _not_found(Opcode.REMOVE_OBJECT)
        self._authorise(Opcode.REMOVE_OBJECT, consumer, held.policy, password)
        self._drop(key)
        if not held.policy & _TRANSIENT:
            self.generation += 1
            self._note_removal(key)

    def confirm(self, consumer: Consumer, password: bytes, label: bytes) -> bool:
        """Say whether the newest change to a label is durable.

        Raises Refusal (H_NOT_FOUND, r4 = 1) when there is no object and its absence is durable;
        a pending removal is an answer of False like any other pending change.
        """
        self._authenticate(Opcode.CONFIRM_OBJECT_FLUSHED, consumer, password)
        key = (int(consumer), label)
        held = self._objects.get(key)
        changed = self._removed.get(key, self._unnamed_removals)
        if held is not None and not held.policy & _TRANSIENT:
            changed = held.generation
        if changed > self.flushed:
            self.awaited = max(self.awaited, changed)
            return False
        if held is None:
            raise _not_found(Opcode.CONFIRM_OBJECT_FLUSHED, outputs=(1,))
        return True

    def labels(
        self, consumer: Consumer, password: bytes, token: int, room: int, size: Callable[[bytes], int]
    ) -> tuple[Sequence[bytes], int]:
        """Return the next labels that fit into `room` bytes, and the token for the rest (0: none).

        `size` tells the bytes that a label takes in the list.  A token other than 0 must be in
        `listings`, which the argument checks see to.
        """
        self._authenticate(Opcode.GET_OBJECTLABELS, consumer, password)
        if token:
            labels = self.listings.take(consumer, token)
        else:
            labels = [label for owner, label in self._objects if owner == consumer]
        count = fitting(labels, room, size)
        if labels and not count:
            raise Refusal(
                Status.H_P4,
                "the buffer has no room for one label",
                rule="the list holds whole labels, at least one",
                section="spec/hcalls/get_objectlabels.md#checks",
                argument="labels_length",
            )
        return labels[:count], self.listings.keep(consumer, token, labels[count:])

    # Inside

    def _cost(self, label: bytes, data: bytes) -> int:
        return len(label) + len(data) + self.limits.object_overhead

    def _note_removal(self, key: _Key) -> None:
        """Remember a removal until it is flushed, in bounded memory however long that takes."""
        if len(self._removed) >= MAX_PENDING_REMOVALS:
            self._removed.clear()
            self._unnamed_removals = self.generation
        self._removed[key] = self.generation

    def _drop(self, key: _Key) -> None:
        held = self._objects.pop(key)
        self.used -= self._cost(key[1], held.data)

    def _authenticate(self, call: Opcode, consumer: Consumer, password: bytes) -> None:
        self._authorise(call, consumer, None, password)

    def _authorise(self, call: Opcode, consumer: Consumer, policy: int | None, password: bytes) -> None:
        state = self.passwords.state(consumer, password)
        verdict = authorise(call, consumer, policy, state, self.secure_boot)
        if verdict is not _ALLOWED:
            raise _forbidden(call, verdict, policy)


def _forbidden(call: Opcode, verdict: Verdict, policy: int | None) -> Refusal:
    """Return H_AUTHORITY; r5 of a READ tells the policy where the policy is the reason."""
    by_policy = verdict is not Verdict.PASSWORD
    tells = by_policy and call is Opcode.READ_OBJECT
    return Refusal(
        Status.H_AUTHORITY,
        "the policy of the object forbids it" if by_policy else "the password does not fit",
        rule=verdict.value,
        section="spec/policies.md#verdicts" if by_policy else "spec/policies.md#passwords",
        outputs=(0, policy or 0) if tells else (),
    )


def _not_found(call: Opcode, outputs: tuple[int, ...] = ()) -> Refusal:
    return Refusal(
        Status.H_NOT_FOUND,
        "no such object",
        rule="the label names an object of this consumer",
        section=f"spec/hcalls/{call.name.lower()}.md#checks",
        argument="label",
        outputs=outputs,
    )
