"""The common part of firmware and boot loader: a stage of the boot that locks its objects.

An early stage reads and writes its objects. Then it sets a password that only it knows, and starts the next
stage. Later stages can't use its objects without the password (R-03, R-04). The next IPL unsets it.
"""

from __future__ import annotations

import inspect
import secrets
from collections.abc import Callable
from typing import ClassVar, Protocol, TypeVar

from hcall_abi.consumers import Consumer
from hcall_abi.mistakes import WrongType, check_bytes, check_number, kind_of, of_caller
from hcall_abi.policies import Policy
from hcall_abi.statuses import Status
from hcall_abi.structures import Config
from hcall_client.calls import (
    Authorization,
    Confirmation,
    HcallError,
    Labels,
    ObjectRead,
    Request,
    confirm_object_flushed,
    get_object_labels,
    read_object,
    remove_object,
    set_password,
    write_object,
)

T = TypeVar("T")

__tracebackhide__ = of_caller


class Caller(Protocol):
    """A channel that makes h-calls, such as an open `Channel`."""

    async def call(self, request: Request[T]) -> T:
        """Make one h-call and return its result."""

    async def limits(self) -> Config:
        """Return the answer of the channel's first GET_CONFIG."""


def check_channel(taker: str, channel: object) -> None:
    """Raise WrongType for a value that is no asynchronous channel; `taker` is the function that needs one."""
    limits = getattr(channel, "limits", None)
    if inspect.iscoroutinefunction(limits):
        return
    write = f"write {taker}(channel), or {taker}(partition.channel)"
    if limits is not None:
        write = f"write {taker}(pks_partition.channel) in an async test, or use open_channel for a server"
    raise WrongType(
        f"{taker} takes {'an asynchronous' if limits else 'a'} channel, not {kind_of(channel)}: {write}"
    )


class Stage:
    """One stage of the boot acting as its consumer.

    `entropy` returns the requested number of random bytes, for the password.  Every operation raises
    HcallError if the keystore refuses it.
    """

    consumer: ClassVar[Consumer]

    def __init__(self, channel: Caller, entropy: Callable[[int], bytes] = secrets.token_bytes) -> None:
        check_channel(type(self).__name__, channel)
        self._channel = channel
        self._entropy = entropy
        self._authorization = Authorization(self.consumer)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'locked' if self.locked else 'not locked'})"

    @property
    def locked(self) -> bool:
        """Whether this stage has set its password."""
        return bool(self._authorization.password)

    async def lock(self) -> None:
        """Set a random password of the greatest length; no other stage knows it in this IPL."""
        # The password has the greatest length, as in Linux (spec/linux.md).
        size = (await self._channel.limits()).max_password_size
        self._authorization = await self._channel.call(set_password(self.consumer, self._entropy(size)))

    async def write(self, label: bytes, data: bytes, policy: int = 0) -> None:
        """Make a new object of this consumer."""
        await self._channel.call(write_object(self._authorization, label, data, policy))

    async def read(self, label: bytes, owner: int | None = None) -> ObjectRead:
        """Read an object of this consumer, or of another `owner` without authorization."""
        other = owner is not None and owner != self.consumer
        # For another consumer's object no password is sent: a password counts only for the objects of its own
        # consumer. Such an object can be read if it is world-readable.
        who = Authorization(owner) if other and owner is not None else self._authorization
        size = (await self._channel.limits()).max_object_size
        return await self._channel.call(read_object(who, label, size))

    async def remove(self, label: bytes) -> None:
        """Remove an object of this consumer."""
        await self._channel.call(remove_object(self._authorization, label))

    async def confirm(self, label: bytes) -> Confirmation:
        """Ask whether the newest change to a label of this consumer is durable."""
        return await self._channel.call(confirm_object_flushed(self._authorization, label))

    async def labels(self) -> list[bytes]:
        """List all labels of this consumer."""
        found: list[bytes] = []
        # The loop needs a part to begin with. Token 0 in it begins a new list.
        part = Labels((), 0, more=True)
        while part.more:
            part = await self._channel.call(get_object_labels(self._authorization, part.token))
            found += part.labels
        return found

    async def provide(self, label: bytes, data: bytes, policy: int = 0) -> bool:
        """Make sure that an object exists with this data and policy; return whether it had to be written.

        Objects outlive an IPL.  So an object with this data and policy stays.  Any other object with the
        label is removed first, because a write never overwrites (R-08).
        """
        check_bytes("data", data)  # before the present object is removed
        check_number("policy", policy)
        try:
            # An ObjectRead is a tuple, and a policy is a number. So both are compared by their values.
            if await self.read(label) == (data, policy):
                return False
            await self.remove(label)
        except HcallError as error:
            if error.status != Status.H_NOT_FOUND:
                raise
        await self.write(label, data, policy)
        return True

    async def publish_key(self, label: bytes, key: bytes, policy: int = 0) -> bool:
        """Make sure that a world-readable public key exists; only its owner can change it (R-11)."""
        return await self.provide(label, key, policy | Policy.WORLDREADABLE)
