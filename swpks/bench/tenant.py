"""The objects that a benchmark makes in a user's partition, uses, and removes."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from hcall_abi.consumers import Consumer
from hcall_abi.errors import SwpksError
from hcall_abi.rules import hcalls as rules
from hcall_abi.rules.service import COMMAND_ANSWERED
from hcall_abi.statuses import Status
from hcall_client.blocking import BlockingChannel
from hcall_client.calls import (
    confirm_object_flushed,
    read_object,
    remove_object,
    write_object,
)
from hcall_client.errors import HcallError
from hcall_client.request import Authorization, Request
from swpks.bench.cases import LARGE, MOST_SESSIONS, SMALL, BenchCall

DURABLE_PATIENCE = 5.0
"""Most seconds to wait until the removal is durable."""
PAUSE = 0.01


class BenchRefused(SwpksError):
    """The benchmark can't run in this partition, or can't remove its objects; the text says why."""


class Tenant:
    """Objects of the operating system's consumer under labels that no other program uses.

    A context manager: it makes the objects when it is entered, and removes them when it is left, also after
    an error.  `timeout` is in seconds, for each call.  In a `disposable` partition the objects stay.
    """

    def __init__(
        self, path: str | os.PathLike[str], password: bytes, timeout: float, *, disposable: bool = False
    ) -> None:
        self._disposable = disposable
        self._path = path
        self._timeout = timeout
        self._who = Authorization(Consumer.OPERATING_SYSTEM, password)
        # The mark is random, so the labels of each run are new.  A run that was killed has left its objects
        # under other labels.
        self._mark = b"swpks-bench-" + secrets.token_hex(4).encode()
        self._written: list[bytes] = []

    def __enter__(self) -> Self:
        try:
            with self._channel() as channel:
                self._demand_room(channel)
                for label, size in self._sizes().items():
                    self._write(channel, label, size)
        except BaseException as error:
            self._leave(error)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave(error)

    def _leave(self, error: BaseException | None) -> None:
        """Remove all objects; BenchRefused if that fails.

        The text of BenchRefused names the objects that stay.  If `error` is given, the text begins with its
        message.
        """
        if self._disposable or not self._written:
            return
        try:
            with self._channel() as channel:
                self._remove(channel)
        except (SwpksError, OSError) as failure:
            left = f"the objects {self._mark.decode()}-* stay in the store ({_message(failure)})"
            if isinstance(error, SwpksError):
                raise BenchRefused(error.rule, f"{error.message}; {left}") from None
            rule = failure.rule if isinstance(failure, SwpksError) else COMMAND_ANSWERED
            raise BenchRefused(rule, left) from None

    def requests(self, call: BenchCall, number: int) -> tuple[list[Request[Any]], Request[Any] | None]:
        """Return the calls of one operation, and the CONFIRM that the client repeats.

        The CONFIRM is None for an operation that only reads.
        """
        if call is not BenchCall.CONFIRMED:
            label, size = (self._small, SMALL) if call is BenchCall.READ_SMALL else (self._large, LARGE)
            return [read_object(self._who, label, size)], None
        label = self._own(number)
        confirm = confirm_object_flushed(self._who, label)
        write = write_object(self._who, label, bytes(SMALL))
        # WRITE does not replace an object, so each operation removes the last one first.
        return [remove_object(self._who, label), write, confirm], confirm

    @property
    def _small(self) -> bytes:
        return self._mark + b"-small"

    @property
    def _large(self) -> bytes:
        return self._mark + b"-large"

    def _own(self, number: int) -> bytes:
        return self._mark + b"-%02d" % number

    def _sizes(self) -> Mapping[bytes, int]:
        own = {self._own(number): SMALL for number in range(MOST_SESSIONS)}
        return {self._small: SMALL, self._large: LARGE, **own}

    def _channel(self) -> BlockingChannel:
        return BlockingChannel.connect(self._path, name="swpks bench", timeout=self._timeout)

    def _demand_room(self, channel: BlockingChannel) -> None:
        config = channel.limits()
        sizes = self._sizes()
        needed = sum(size + len(label) + config.object_overhead for label, size in sizes.items())
        free = config.total_size - config.used_space
        if needed > free:
            advice = "take a partition with more room, or remove objects"
            message = f"the store has {free} bytes free, and the benchmark needs {needed}: {advice}"
            raise BenchRefused(rules.SPACE, message)

    def _write(self, channel: BlockingChannel, label: bytes, size: int) -> None:
        self._written.append(label)  # before the call: an interrupt may come before the answer
        try:
            channel.call(write_object(self._who, label, bytes(size)))
        except HcallError as error:
            self._written.remove(label)
            if error.status == Status.H_AUTHORITY:
                raise BenchRefused(rules.PASSWORD_FITS, self._about_password()) from None
            raise

    def _about_password(self) -> str:
        if self._who.password:
            return "the given password is not that of the operating system's consumer, which may have none"
        advice = "give the password of this IPL with --password-file"
        return f"the operating system's consumer has a password: {advice}"

    def _remove(self, channel: BlockingChannel) -> None:
        """Remove all objects and wait until the removal is durable.  A missing object is no error."""
        for label in self._written:
            try:
                channel.call(remove_object(self._who, label))
            except HcallError as error:
                if error.status != Status.H_NOT_FOUND:
                    raise
        self._await_durable(channel, self._written[-1])

    def _await_durable(self, channel: BlockingChannel, label: bytes) -> None:
        end = time.monotonic() + DURABLE_PATIENCE
        while time.monotonic() < end:
            if channel.call(confirm_object_flushed(self._who, label)).flushed:
                return
            time.sleep(PAUSE)


def _message(error: SwpksError | OSError) -> str:
    """Return the message of an error, without the id of its rule."""
    return error.message if isinstance(error, SwpksError) else error.strerror or str(error)
