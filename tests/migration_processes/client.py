"""Two clients of a partition that moves: `Load` writes and reads, `Watch` only notes when a system answers.

    with Load(console.locate("lpar1"), ledger) as load: ...     # raises the first failure at its end

`Load` sets a password. A live move must keep the password, and an IPL must end it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from hcall_abi.errors import PeerError
from hcall_abi.frames import GoodbyeReason
from hcall_abi.statuses import Status
from hcall_client.blocking import BlockingChannel, Target
from hcall_client.blocking_following import FollowingBlockingChannel
from hcall_client.calls import (
    Authorization,
    confirm_object_flushed,
    get_config,
    read_object,
    remove_object,
    set_password,
    write_object,
)
from hcall_client.errors import ConnectionLost, HcallError, NotReached, OpenRefused, SessionEnded
from hcall_client.request import Request

T = TypeVar("T")

CONSUMER = 3
PASSWORD = b"a password that travels"
OWNER = Authorization(CONSUMER, PASSWORD)
KEPT = 24
"""Most confirmed objects in the store; the client removes older ones."""
SIZE = 600
PATIENCE = 40.0
"""Seconds for which a client waits for a partition that moves, or whose system restarts."""
ENDS = (ConnectionLost, SessionEnded, OpenRefused, NotReached, PeerError, OSError, LookupError)
"""Errors of a client whose system was killed."""


class Ledger:
    """The numbers of a client's confirmed objects, over many sessions."""

    def __init__(self) -> None:
        self.kept: dict[int, bytes] = {}
        self.strays: set[int] = set()
        """Numbers of objects that may be in the store, and have to be removed."""
        self.last = 0
        self.confirmed = 0
        self.ipls = 0
        self.password_set = False
        self.ends: list[BaseException] = []
        """The errors that have ended its channels."""

    def demand(self, channel: BlockingChannel | FollowingBlockingChannel) -> None:
        """Assert that every object with a confirmed write is in the store."""
        self.own(channel)
        for number, data in self.kept.items():
            found = channel.call(read_object(OWNER, label_of(number))).data
            assert found == data, f"write {number} of {self.last}: {found[:20]!r}, not {data[:20]!r}"

    def own(self, channel: BlockingChannel | FollowingBlockingChannel) -> None:
        """Set the password if an IPL has ended it."""
        if channel.ipl_count == self.ipls:
            assert self.password_set
            return
        assert channel.ipl_count > self.ipls, "an IPL count goes up"
        # After an IPL, a READ with the old password must be refused. One object is enough to show that.
        for number in self.kept if self.ipls else ():
            refused = None
            try:
                channel.call(read_object(OWNER, label_of(number)))
            except HcallError as error:
                refused = error
            assert refused is not None, "a password survived an IPL"
            break
        channel.call(set_password(CONSUMER, PASSWORD))
        self.ipls, self.password_set = channel.ipl_count, True


def label_of(number: int) -> bytes:
    """Return the label of an object."""
    return b"write %d" % number


class Load:
    """A client in a thread, which works during a block."""

    def __init__(self, locate: Callable[[], Target], ledger: Ledger) -> None:
        self.ledger = ledger
        self.moves = 0
        self.longest = 0.0
        """The longest time between two answers, seconds."""
        self._locate = locate
        self._over = threading.Event()
        self._may_call = threading.Event()
        self._may_call.set()
        self._holds = threading.Event()
        self._beat = threading.Condition()
        self._failure: BaseException | None = None
        self._answered = 0.0
        self._thread = threading.Thread(target=self._run, name="load")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        if self._failure and kind is None:
            raise self._failure

    def goes_on(self, writes: int = 4) -> None:
        """Wait until this number of further writes is confirmed."""
        goal = self.ledger.confirmed + writes
        with self._beat:
            came = self._beat.wait_for(lambda: self._failure or self.ledger.confirmed >= goal, PATIENCE)
        assert came, f"the client is stuck; it got {self.ledger.ends[-3:]}"
        if self._failure:
            raise self._failure

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Pause the client during a block.

        The block begins when no call of the client waits for an answer.
        """
        self._may_call.clear()
        try:
            assert self._holds.wait(PATIENCE), f"the client is stuck; it got {self.ledger.ends[-3:]}"
            if self._failure:
                raise self._failure
            yield
        finally:
            self._holds.clear()
            self._may_call.set()

    def _hold(self) -> None:
        if not self._may_call.is_set():
            self._holds.set()
            self._may_call.wait()

    def _run(self) -> None:
        try:
            while not self._over.is_set():
                self._hold()
                try:
                    self._session()
                except ENDS as error:
                    self._note(error)
        except BaseException as error:
            self._failure = error
        # These two lines wake `paused` and `goes_on`. Without them, both would wait for a thread that has
        # failed.
        self._holds.set()
        with self._beat:
            self._beat.notify_all()

    def _note(self, error: Exception) -> None:
        """Note the error that has ended a session, and wait before the next session."""
        self.ledger.ends.append(error)
        self._over.wait(0.005)

    def _session(self) -> None:
        with FollowingBlockingChannel(self._locate, name="load", timeout=PATIENCE) as channel:
            try:
                self.ledger.own(channel)
                self._answered = time.monotonic()
                while not self._over.is_set():
                    self._hold()
                    self._round(channel)
            finally:
                self.moves += channel.moves

    def _round(self, channel: FollowingBlockingChannel) -> None:
        """Write and confirm the next object, read one object, and remove an old one."""
        ledger = self.ledger
        self._remove_strays(channel)
        ledger.last += 1
        # The number is noted before the call. If the session ends during the call, the object may be in the
        # store.
        ledger.strays.add(ledger.last)
        number, data = ledger.last, (b"%d " % ledger.last).ljust(SIZE, b".")
        self._call(channel, write_object(OWNER, label_of(number), data))
        while not self._call(channel, confirm_object_flushed(OWNER, label_of(number))).flushed:
            if self._over.is_set():
                return
        ledger.kept[number] = data
        ledger.strays.discard(number)
        for each in (number, min(ledger.kept)):
            assert self._call(channel, read_object(OWNER, label_of(each))).data == ledger.kept[each]
        if len(ledger.kept) > KEPT:
            oldest = min(ledger.kept)
            del ledger.kept[oldest]
            ledger.strays.add(oldest)
        with self._beat:
            ledger.confirmed += 1
            self._beat.notify_all()

    def _remove_strays(self, channel: FollowingBlockingChannel) -> None:
        """Remove objects whose write was never confirmed, and old ones. Otherwise the store would be full."""
        for number in sorted(self.ledger.strays):
            try:
                self._call(channel, remove_object(OWNER, label_of(number)))
            except HcallError as error:
                if error.status != Status.H_NOT_FOUND:
                    raise
            self.ledger.strays.discard(number)

    def _call(self, channel: FollowingBlockingChannel, request: Request[T]) -> T:
        """Make a call. If it gets H_R_STATE during a hold, it was not executed, and is repeated."""
        while True:
            try:
                answer = channel.call(request)
            except HcallError as error:
                if channel.ipl_count != self.ledger.ipls:
                    self.ledger.own(channel)
                elif error.status == Status.H_R_STATE:
                    self._over.wait(0.01)
                else:
                    raise
            else:
                now = time.monotonic()
                self.longest = max(self.longest, now - self._answered)
                self._answered = now
                return answer


class Watch:
    """Makes calls at a partition's socket on one system, and notes the times of the first and last answer."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.first_end: float | None = None
        self.last_start: float | None = None
        self.answers = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"watch {socket}")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            with suppress(*ENDS), BlockingChannel.connect(self.socket, name="watch", timeout=0.5) as channel:
                while not self._over.wait(0.002):
                    self._ask(channel)
            self._over.wait(0.004)

    def _ask(self, channel: BlockingChannel) -> None:
        begun = time.monotonic()
        try:
            channel.call(get_config())
        except TimeoutError:
            return
        # The server answered between `begun` and now. For the first answer the later time is stored, for the
        # last answer the earlier time. Otherwise a slow client could look like two owners.
        if self.first_end is None:
            self.first_end = time.monotonic()
        self.last_start = begun
        self.answers += 1


def demand_one_owner(before: Watch, after: Watch) -> None:
    """Assert that the first owner's last answer precedes the next owner's first answer."""
    if after.first_end is not None and before.last_start is not None:
        late = before.last_start - after.first_end
        assert late < 0, f"{before.socket} served {late:.3f} s after {after.socket} had answered"


def has_moved(error: BaseException) -> bool:
    """Return whether a session ended because its partition has moved away."""
    return isinstance(error, SessionEnded) and error.reason == GoodbyeReason.MIGRATED
