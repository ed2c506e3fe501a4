"""Operations on objects of every kind: write, generate, read, remove, confirm, list."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hcall_abi.calls import Opcode
from hcall_server.keystore.access import AccessControl, Credentials
from hcall_server.keystore.contents import Contents, KeystoreObject
from hcall_server.keystore.refusals import NotFound
from hcall_server.keystore.tokens import Listings

_READ = Opcode.READ_OBJECT


class Objects:
    """The operations of consumers on the objects of one partition; `entropy` makes random objects."""

    def __init__(
        self,
        contents: Contents,
        access: AccessControl,
        listings: Listings,
        entropy: Callable[[int], bytes],
    ) -> None:
        self._contents = contents
        self._access = access
        self._listings = listings
        # READ is the most frequent call.  These bound functions save it three look-ups.
        self._state, self._find, self._demand = access.state, contents.find, access.demand
        self._entropy = entropy

    def __repr__(self) -> str:
        return f"Objects({self._contents!r})"

    def write(self, who: Credentials, label: bytes, policy: int, data: bytes) -> None:
        """Make a new object (R-08).  Raises Taken if the label has an object, Forbidden, and NoRoom."""
        self._make(Opcode.WRITE_OBJECT, who, label, policy, lambda: data)

    def generate(self, who: Credentials, label: bytes, policy: int, length: int) -> bytes:
        """Make an object of `length` random bytes and return the bytes; raises the errors of `write`.

        The caller must not pass the bytes of a wrapping key to the guest.
        """
        return self._make(Opcode.GEN_KEY, who, label, policy, lambda: self._entropy(length))

    def _make(
        self, call: Opcode, who: Credentials, label: bytes, policy: int, data: Callable[[], bytes]
    ) -> bytes:
        """Make an object.  Its policy must permit its maker to use it."""
        state = self._access.enter(call, who)
        self._contents.demand_vacant((who.consumer, label))
        self._access.demand(call, state, policy)
        # The data are made after the checks, so a refused GEN_KEY takes no entropy.  They are made before
        # the first change, so a lack of entropy changes nothing.
        made = data()
        self._contents.put((who.consumer, label), policy, made)
        return made

    def read(self, who: Credentials, label: bytes) -> KeystoreObject:
        """Return an object that the caller may read; Forbidden or NotFound."""
        state = self._state(who)
        # `enter` would demand the password.  A world-readable object needs none, so READ has to find the
        # object first.
        held = self._find((who.consumer, label))
        if held is None:
            self._demand(_READ, state, None)
            raise NotFound("no such object")
        self._demand(_READ, state, held.policy)
        return held

    def remove(self, who: Credentials, label: bytes) -> None:
        """Remove an object; Forbidden or NotFound.  The removal too is pending until it is flushed."""
        state = self._access.enter(Opcode.REMOVE_OBJECT, who)
        held = self._contents.get((who.consumer, label))
        self._access.demand(Opcode.REMOVE_OBJECT, state, held.policy)
        self._contents.remove((who.consumer, label))

    def confirm(self, who: Credentials, label: bytes) -> bool:
        """Return whether the newest change to a label is durable.  A removal is a change too.

        NotFound if the label has no object, and its absence is durable.
        """
        self._access.enter(Opcode.CONFIRM_OBJECT_FLUSHED, who)
        # The pending change is checked first, because NotFound means that the absence is durable.  Linux
        # takes "not found, not yet durable" for a failure (spec/hcalls/confirm_object_flushed.md).
        if self._contents.pending((who.consumer, label)):
            return False
        self._contents.get((who.consumer, label))
        return True

    def labels(self, who: Credentials, token: int) -> Sequence[bytes]:
        """Return the labels of a consumer.

        With a token, return those that its list has not delivered yet.
        """
        self._access.enter(Opcode.GET_OBJECTLABELS, who)
        return self._listings.take(token) if token else self._contents.labels(who.consumer)
