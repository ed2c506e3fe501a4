"""The contents of a keystore: objects by label, with space, generations and removals.

No function here checks access.  The operations in `objects`, `keys` and `signed` call
`hcall_server.keystore.access` first.

There are three kinds of objects.  Persistent objects are stored in NVRAM.  TRANSIENT objects end with the
IPL.  Every IPL makes the hypervisor's own objects again.  `generation` counts the changes of persistent
objects.  Write-behind seals a `snapshot`, commits it, and calls `mark_flushed`.  Until then an object of a
newer generation is pending (R-20).

Each persistent object has its encoded entry beside it, so that a snapshot visits no object
(`hcall_server.keystore.image`).  `_hold`, `set_policy` and `_drop` are the only ways to change an object, and
each keeps the entry up to date.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from hcall_abi.consumers import Consumer
from hcall_abi.policies import Policy
from hcall_server.keystore.image import StoredObject, StoreImage, entry_of, object_of
from hcall_server.keystore.key_ids import KeyIds
from hcall_server.keystore.limits import KeystoreLimits
from hcall_server.keystore.refusals import NoRoom, NotFound, Taken

MAX_PENDING_REMOVALS = 4096
"""Most removals that are stored by label.  Beyond it, every absent label is pending until the next flush.

Without this bound, a guest could fill the memory of the server: it writes and removes while NVRAM refuses.
"""

PROVIDED = int(Policy.HVPROVISIONED)
VOLATILE = int(Policy.TRANSIENT | Policy.HVPROVISIONED)
"""Policy bits of objects that never reach NVRAM and end with the IPL."""
_WRAPPING = int(Policy.WRAPPINGKEY)

Key = tuple[int, bytes]
"""The key of an object: its owner's number and its label."""


class KeystoreObject:
    """An object in memory, with the generation at which it was last changed.  A change makes a new one."""

    __slots__ = ("data", "generation", "policy")

    def __init__(self, policy: int, data: bytes, generation: int) -> None:
        self.policy = policy
        self.data = data
        self.generation = generation

    def __repr__(self) -> str:
        sizes = f"{len(self.data)} bytes, generation {self.generation}"
        return f"KeystoreObject(policy=0x{self.policy:08X}, {sizes})"


class SavedContents(NamedTuple):
    """The contents of a store at one moment, in memory only: volatile objects are included.

    Contents may go back.  Counters never do: `generation` is only the least one that a restore exceeds.
    """

    generation: int
    limits: KeystoreLimits
    objects: Mapping[Key, KeystoreObject]
    entries: Mapping[Key, bytes]
    key_ids: KeyIds
    used: int

    def __repr__(self) -> str:
        return f"SavedContents({len(self.objects)} objects)"


class Contents:
    """The objects of one partition.

    `image`, if given, is the stored image; it counts as flushed.  If there is no image, the store is empty,
    and `replaces` is the generation of the partition's previous store (0: none).  Until the empty store is
    durable, a crash may bring the old objects back.  So the absence of every label is pending.

    `awaited` is the newest generation for which CONFIRM was answered "not yet".
    """

    def __init__(self, limits: KeystoreLimits, image: StoreImage | None = None, *, replaces: int = 0) -> None:
        self.limits = limits
        self.flushed = image.generation if image else replaces
        # If an empty store replaces another one, that counts as a change.  The first flush makes it
        # durable.
        self.generation = self.flushed + (1 if replaces and not image else 0)
        self.awaited = 0
        self.used = 0
        self._objects: dict[Key, KeystoreObject] = {}
        self._entries: dict[Key, bytes] = {}  # of all objects but the volatile ones, in their order
        self.find: Callable[[Key], KeystoreObject | None] = self._objects.get
        """Returns the object of a key, or None.  It is the dict's own method, because every READ calls it."""
        self.key_ids = KeyIds()
        # The removals that are not flushed, each with its generation.  CONFIRM must not answer "gone"
        # before the removal is flushed: a crash would bring the object back.
        #
        # Some removals have no known label: those of a previous store, and those beyond
        # MAX_PENDING_REMOVALS.  `_unnamed_removals` is the newest generation of these.
        self._removed: dict[Key, int] = {}
        self._unnamed_removals = self.generation if not image else 0
        self._restored = 0  # the generation of the last `restore`: no object is older
        for entry in image.entries if image else ():
            self._load(entry)

    def _load(self, entry: bytes) -> None:
        """Add an object from its entry in the stored image."""
        consumer, label, policy, data = object_of(entry)
        # An image has no generation for each object.  All objects are flushed, so each gets the generation
        # of the image.
        self._hold((consumer, label), KeystoreObject(policy, data, self.generation), entry)
        self.used += self._cost(label, data)

    def __repr__(self) -> str:
        return f"Contents({len(self._objects)} objects, {self.used} of {self.limits.total_size} bytes)"

    @property
    def dirty(self) -> bool:
        """Whether any change is not durable yet."""
        return self.generation != self.flushed

    @property
    def object_count(self) -> int:
        """The number of objects of all consumers, without those that the hypervisor provides."""
        return sum(1 for held in self._objects.values() if not held.policy & PROVIDED)

    def touch(self) -> None:
        """Count a change outside of the contents, such as of the profile: one commit has it and the image."""
        self.generation += 1

    def get(self, key: Key) -> KeystoreObject:
        """Return the object of a key; NotFound where there is none."""
        held = self._objects.get(key)
        if held is None:
            raise NotFound("no such object")
        return held

    def demand_vacant(self, key: Key) -> None:
        """Raise Taken where there is an object: a write never overwrites (R-08)."""
        if key in self._objects:
            raise Taken("the label is taken")

    def labels(self, consumer: Consumer) -> list[bytes]:
        """Return the labels of a consumer, the oldest object first."""
        return [label for owner, label in self._objects if owner == consumer]

    def with_bit(self, bit: int) -> list[Key]:
        """Return the keys of all objects that have a policy bit."""
        return [key for key, held in self._objects.items() if held.policy & bit]

    def grow(self, limits: KeystoreLimits) -> None:
        """Set new limits; the caller has checked that the store does not shrink."""
        self.limits = limits

    def snapshot(self) -> StoreImage:
        """Return the image for NVRAM: every object except the volatile ones."""
        return StoreImage(self.generation, tuple(self._entries.values()))

    def mark_flushed(self, generation: int) -> None:
        """Mark the snapshot of `generation` as durable."""
        # A landing may report an older commit after a newer one.  Flushed changes must not become pending
        # again.
        self.flushed = max(self.flushed, generation)
        self._removed = {key: when for key, when in self._removed.items() if when > self.flushed}

    def objects(self) -> list[StoredObject]:
        """Return all objects, the oldest first."""
        return [StoredObject(*key, held.policy, held.data) for key, held in self._objects.items()]

    # Saved contents: copies of dicts, whose objects never change.  A saved image would be slower, because its
    # entries must be decoded, and it has no volatile objects.

    def saved(self) -> SavedContents:
        """Return the present contents for `restore`.  Later changes do not affect the result."""
        objects, entries = dict(self._objects), dict(self._entries)
        keys = self.key_ids.copy()
        return SavedContents(self.generation, self.limits, objects, entries, keys, self.used)

    def restore(self, saved: SavedContents) -> None:
        """Put saved contents of this partition back.  This is one change of every label, and not durable yet.

        The generation counts on.  So every object, and the absence of every other label, is pending until the
        next flush.
        """
        self.generation = max(self.generation, saved.generation) + 1
        self._restored = self._unnamed_removals = self.generation
        self._removed.clear()
        self.limits, self.key_ids, self.used = saved.limits, saved.key_ids.copy(), saved.used
        self._entries = dict(saved.entries)
        # Refill the same dict: `find` and `Objects` have its bound method.
        self._objects.clear()
        self._objects.update(saved.objects)

    # Volatile objects: they move with a partition, and end at an IPL

    def volatile(self) -> list[tuple[int, StoredObject]]:
        """Return the volatile objects, each with its place among all objects."""
        placed = enumerate(self._objects.items())
        return [
            (place, StoredObject(*key, held.policy, held.data))
            for place, (key, held) in placed
            if held.policy & VOLATILE
        ]

    def take_volatile(self, objects: Iterable[tuple[int, StoredObject]]) -> None:
        """Insert volatile objects of another system at their places, given in ascending order.

        So a list of labels has the same order at both systems.
        """
        order = list(self._objects)
        for place, (consumer, label, policy, data) in objects:
            # The places are ascending, and an insertion moves only later objects.  So the objects inserted
            # before keep their places.
            self._hold((consumer, label), KeystoreObject(policy, data, self.generation))
            self.used += 0 if policy & PROVIDED else self._cost(label, data)
            order.insert(place, (consumer, label))
        found = {key: self._objects[key] for key in order}
        # Refill the same dict: `find` and `Objects` have its bound method.
        self._objects.clear()
        self._objects.update(found)

    # Objects that the hypervisor provides

    def provide(self, consumer: Consumer, label: bytes, policy: int, data: bytes) -> None:
        """Put an object of the hypervisor's own into a consumer's name space until the next IPL.

        The policy word gets HVPROVISIONED.  Such an object takes no space and is not counted.  It is never
        stored in NVRAM, so the caller provides it after every IPL
        (spec/policies.md#objects-of-the-hypervisor).  If a consumer has made an object under the label,
        that object is removed.
        """
        key = (consumer, label)
        # A silent replacement would leave the consumer's object in the stored image.  So it is removed
        # first.
        if key in self._objects:
            self.remove(key)
        self._hold(key, KeystoreObject(policy | PROVIDED, data, self.generation))

    # Changes: the caller has checked that each is allowed

    def _cost(self, label: bytes, data: bytes) -> int:
        return len(label) + len(data) + self.limits.object_overhead

    def _demand_space(self, cost: int) -> None:
        """Raise NoRoom if a change adds more bytes (`cost`) than are free."""
        if self.used + cost > self.limits.total_size:
            message = f"{cost} bytes do not fit: {self.used} of {self.limits.total_size} are used"
            raise NoRoom(message)

    def put(self, key: Key, policy: int, data: bytes) -> None:
        """Make or replace an object, if there is space for it."""
        held = self._objects.get(key)
        # The space of the old data counts as free.  So a signed update succeeds even if its variable fills
        # the store.
        freed = self._cost(key[1], held.data) if held else 0
        cost = self._cost(key[1], data) - freed
        # Checked before the first change: a call that finds no room must change nothing.
        self._demand_space(cost)
        if not policy & VOLATILE:
            self.generation += 1
        self._hold(key, KeystoreObject(policy, data, self.generation))
        self.used += cost

    def _hold(self, key: Key, held: KeystoreObject, entry: bytes | None = None) -> None:
        """Store an object under its key, in place of the old object if there is one.

        `entry` is the object's encoded entry, if the caller has it already.
        """
        before = self._objects.get(key)
        if before is not None and before.policy & _WRAPPING:
            self.key_ids.drop(*key)
        self._objects[key] = held
        self._keep_entry(key, held, entry)
        if held.policy & _WRAPPING:
            self.key_ids.add(*key, held.data)

    def _keep_entry(self, key: Key, held: KeystoreObject, entry: bytes | None = None) -> None:
        if held.policy & VOLATILE:
            self._entries.pop(key, None)
        else:
            self._entries[key] = entry or entry_of(*key, held.policy, held.data)

    def remove(self, key: Key) -> None:
        """Remove an object; the removal of a persistent one is pending until it is flushed."""
        if not self._drop(key).policy & VOLATILE:
            self.generation += 1
            self._note_removal(key)

    def set_policy(self, key: Key, policy: int) -> None:
        """Give an object another policy word.  This counts as a change of the object."""
        held = self._objects[key]
        if not policy & VOLATILE:
            self.generation += 1
        # A new object, because saved contents may have the old one.
        self._objects[key] = held = KeystoreObject(policy, held.data, self.generation)
        self._keep_entry(key, held)  # the policy word is part of the entry

    def _drop(self, key: Key) -> KeystoreObject:
        held = self._objects.pop(key)
        self._entries.pop(key, None)
        if held.policy & _WRAPPING:
            self.key_ids.drop(*key)
        if not held.policy & PROVIDED:
            self.used -= self._cost(key[1], held.data)
        return held

    def drop_volatile(self) -> None:
        """End the objects that do not outlive an IPL."""
        for key, held in list(self._objects.items()):
            if held.policy & VOLATILE:
                self._drop(key)

    def _note_removal(self, key: Key) -> None:
        """Store a removal until it is flushed, in bounded memory."""
        # Beyond the bound, the labels are forgotten, and each absent label gets the newest generation.
        # Then CONFIRM may say "not yet" for an unrelated label.  It never says "gone" too early.
        if len(self._removed) >= MAX_PENDING_REMOVALS:
            self._removed.clear()
            self._unnamed_removals = self.generation
        self._removed[key] = self.generation

    def pending(self, key: Key) -> bool:
        """Return whether the newest change to a label is not durable yet; if so, note that a guest waits."""
        held = self._objects.get(key)
        # If the label has a persistent object, its last change is the newest one.  If not, the newest
        # change is a removal.  A TRANSIENT object may have the label of a persistent one whose removal is
        # not flushed.  That one is still in NVRAM (C-G).
        changed = self._removed.get(key, self._unnamed_removals)
        if held is not None and not held.policy & VOLATILE:
            changed = max(held.generation, self._restored)
        if changed <= self.flushed:
            return False
        self.awaited = max(self.awaited, changed)
        return True
