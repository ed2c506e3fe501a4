"""A channel over plain sockets, without Trio, that follows its partition to another system.

    locate = locate_at("store/run/where.sock", "lpar1")
    with FollowingBlockingChannel(locate, timeout=5) as channel:
        channel.call(write_object(who, b"label", b"data"))

It does the same as `hcall_client.following`. After GOODBYE 3 it repeats the calls that have no answer, in
their order. It repeats no other calls.
"""

# How one thread repeats the calls of a moved partition
#
# `hcall_client.following` has the guarantees and the reasons. This channel has one thread, so it needs no
# queue of calls between two sessions. `_answered` holds the list of all requests of a pipeline, and the
# answers so far.
#
#   - Answers come in the order of the calls. So the answered calls are a prefix of the list, and its length
#     says where to go on. `requests[len(answered):]` is sent in the next session: no call twice, none left
#     out.
#   - `BlockingChannel.run` returns also if the session ends in the middle. It lists the calls that were
#     submitted, each with an answer or an error. Later calls were never sent.
#   - The first error decides. After GOODBYE 3 the next session is opened. Every other error is raised,
#     because a call that ended with this error may have run.
#
# If a call runs into `timeout`, TimeoutError leaves `_answered`. The call may have run, so it is not
# repeated.

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self, TypeVar

from hcall_abi.errors import PeerError, SwpksError
from hcall_abi.mistakes import check_function, check_time_limit, of_caller
from hcall_abi.structures import Config
from hcall_client.blocking import BlockingChannel, Target
from hcall_client.calls import get_config
from hcall_client.conversation import Pending, ticket_of
from hcall_client.errors import HcallError, has_moved
from hcall_client.mistakes import several
from hcall_client.moving import Moving, not_found_again
from hcall_client.no_place import check_locate
from hcall_client.patience import (
    MOVE_PATIENCE,
    ON_THE_WAY,
    Attempts,
    FirstAttempts,
    Patience,
    may_arrive,
)
from hcall_client.request import Request
from hcall_client.results import result_of, results_of

T = TypeVar("T")

__tracebackhide__ = of_caller


class FollowingBlockingChannel(Moving[BlockingChannel]):
    """The sessions of one partition, one after the other; it has the functions of `BlockingChannel`.

    `locate` returns the place of the partition.  It is called before each attempt, and may raise OSError or
    LookupError.  The other parameters are those of `BlockingChannel.connect`.  `timeout` bounds the calls of
    one session, in seconds.  The first opening looks for the partition for 5 seconds (`FIRST_PATIENCE`), or
    for `timeout` if that is shorter.  Then it raises NotReached or the last refusal.  `move_patience` is the
    longest time in seconds from a GOODBYE 3 to the next open session.
    """

    def __init__(
        self,
        locate: Callable[[], Target],
        *,
        partition: int = 0,
        access_key: bytes | None = None,
        name: str = "hcall_client",
        timeout: float | None = None,
        move_patience: float = MOVE_PATIENCE,
    ) -> None:
        check_function(
            "locate", locate, 'FollowingBlockingChannel(locate_at("store/run/where.sock", "lpar1"))'
        )
        check_locate(locate, "FollowingBlockingChannel")
        check_time_limit("timeout", timeout)
        check_time_limit("move_patience", move_patience)
        self._locate = locate
        self._ticket = ticket_of(partition, access_key, name)
        self._timeout = timeout
        self._move_patience = move_patience
        self._lost: SwpksError | None = None
        # The channel is made in the last line. `__repr__` and `close` need it. If the opening fails, this
        # line raises, and no half-made object is used.
        self._channel = self._open(FirstAttempts(Patience(timeout, time.monotonic), time.monotonic))

    def __repr__(self) -> str:
        return f"FollowingBlockingChannel({self.moves} moves, {self._channel!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def ended(self) -> Exception | None:
        """The error that ended the channel, None before its end.  GOODBYE 3 does not end the channel."""
        return self._lost or (None if has_moved(self._channel.ended) else self._channel.ended)

    def call(self, request: Request[T]) -> T:
        """Make one h-call and return its result; HcallError where it is refused."""
        (answered,) = self._answered([request])
        return result_of(request, answered, self._complain)

    def pipeline(self, requests: Iterable[Request[T]]) -> list[T | HcallError]:
        """Make many h-calls without waiting in between; they run in the order given.

        Returns a result or the refusal for each.  Raises the error that ends the channel.
        """
        asked = list(several(requests))
        return results_of(zip(asked, self._answered(asked), strict=True), self._complain)

    def limits(self) -> Config:
        """Return the answer to GET_CONFIG of the present system."""
        return self.call(get_config())

    def close(self) -> None:
        """End the session with GOODBYE, and close the socket."""
        self._channel.close()

    def _answered(self, requests: list[Request[Any]]) -> list[Pending]:
        """Make calls until each has an answer; after a GOODBYE 3 go on in the next session."""
        answered: list[Pending] = []
        while len(answered) < len(requests):
            # If the search after the last GOODBYE 3 has failed, each later call raises the same error at
            # once. A new search would take another `move_patience` seconds.
            if self._lost:
                raise self._lost
            # The session may have ended before this call, so the list can be empty.
            sent = self._channel.run(requests[len(answered) :])
            answered += (each for each in sent if each.answer is not None)
            # If a call was too large to be sent, it has an error of its own. If the session ended before the
            # first call, no call has an error. Then the session's error is raised.
            error = next((each.error for each in sent if each.error), self._channel.ended)
            if len(answered) < len(requests):
                self._move_on(error)
        return answered

    def _move_on(self, error: Exception | None) -> None:
        """Open the next session after GOODBYE 3; raise every other error."""
        if error is not None and not has_moved(error):
            raise error
        # The old socket is closed first. Its session is over, but it would still take a place at the server.
        self._channel.close()
        try:
            patience = Patience(self._move_patience, time.monotonic)
            self._channel = self._open(Attempts(patience, may_arrive, ON_THE_WAY))
        except (OSError, SwpksError, LookupError) as lost:
            self._lost = not_found_again(lost)
            raise self._lost from lost
        self.moves += 1

    def _open(self, attempts: Attempts) -> BlockingChannel:
        try:
            return BlockingChannel.reach(self._locate, self._ticket, self._timeout, attempts)
        except (OSError, SwpksError, LookupError) as error:
            from hcall_client.unreached import not_reached  # here, because only a failure needs it

            raise not_reached(error, attempts.place) from error

    def _complain(self, error: PeerError) -> None:
        self._channel.complain(error)
