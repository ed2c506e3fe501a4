"""Clients of a case: each repeats its calls on its own session; one thread runs all of them."""

# How a user's own server is measured
#
# The clients are plain Python, because this command must run where there is no compiler.  So their own work
# is part of every figure, and two choices keep it small and visible:
#
#   - Frames are encoded once, before the measurement.  Answers are decoded, because only successes may count.
#   - One thread serves all sessions with `poll`.  Threads would also wait for the interpreter's lock.
#
# The share of the client is reported beside each figure (`process_time`).  A user can see from it how much
# faster a client in C would be.
#
# A confirmed write ends when CONFIRM reports it durable.  The client repeats only the CONFIRM, with a pause
# before each repetition.  Each pause is twice as long as the last one, up to `LONGEST_PAUSE`.  Without
# pauses, the repeated calls would take the CPU from the flush.
#
# At the end of its time, a case still finishes the operations that have begun.  So the server has no call
# left when the next case begins.

from __future__ import annotations

import select
import time
from collections.abc import Sequence
from typing import Any

from hcall_abi.codec import encode
from hcall_abi.frames import HReturn
from hcall_client.request import Request, refused
from swpks.bench.cases import Case, Figure, summary
from swpks.bench.sessions import BenchSession

FIRST_PAUSE = 0.001
"""Seconds before a client asks again whether its write is durable; each further pause is twice as long."""
LONGEST_PAUSE = 0.016
WARM_UP = 0.2
"""Length of the warm-up, as a part of the time that is counted."""


class BenchClient:
    """A client that repeats one operation: send some calls at once, then wait for all answers.

    A confirmed write has one more call, `again`: the CONFIRM.  The client repeats `again` until its r4 is
    1.  `wake` is the time of the next repetition, None while none is due.  `took` has the seconds of each
    operation.
    """

    def __init__(
        self, session: BenchSession, requests: Sequence[Request[Any]], again: Request[Any] | None = None
    ) -> None:
        self.session = session
        self.wake: float | None = None
        self.took: list[float] = []
        self._first = list(requests)
        self._frames = _frames(self._first)
        self._again = [] if again is None else [again]
        self._asked: list[Request[Any]] = []
        self._answers: list[HReturn] = []
        self._began = 0.0
        self._pause = FIRST_PAUSE

    def begin(self) -> None:
        """Send the calls of the next operation."""
        self._began, self._pause, self._asked = time.perf_counter(), FIRST_PAUSE, self._first
        self.session.send(self._frames)

    def ask_again(self) -> None:
        """Ask once more whether the write is durable."""
        self.wake, self._asked = None, self._again
        self.session.send(_frames(self._again))

    def receive(self) -> bool:
        """Receive answers; return whether the operation is complete.  Raises HcallError for a refusal."""
        self._answers += self.session.receive()
        if len(self._answers) < len(self._asked):
            return False
        answers, self._answers = self._answers, []
        for request, answer in zip(self._asked, answers, strict=True):
            if answer.status:
                raise refused(request.opcode, answer)
        now = time.perf_counter()
        if self._again and answers[-1].registers[0] & 0xFF != 1:
            self.wake = now + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            return False
        self.took.append(now - self._began)
        return True


def _frames(requests: Sequence[Request[Any]]) -> bytes:
    return b"".join(encode(request.frame(tag)) for tag, request in enumerate(requests, 1))


def measure(case: Case, clients: Sequence[BenchClient], seconds: float, timeout: float) -> Figure:
    """Return the figure of clients that run for `seconds`, after a warm-up that is not counted.

    Every operation that has begun is finished.  TimeoutError if no answer comes within `timeout` seconds.
    """
    _drive(clients, WARM_UP * seconds, timeout)
    for client in clients:
        client.took.clear()
    worked, began = time.process_time(), time.perf_counter()
    _drive(clients, seconds, timeout)
    took = [each for client in clients for each in client.took]
    return summary(case, took, time.perf_counter() - began, time.process_time() - worked)


def _drive(clients: Sequence[BenchClient], seconds: float, timeout: float) -> None:
    """Run operations of all clients for some seconds, and finish them."""
    poll = select.poll()
    by_descriptor = {client.session.fileno(): client for client in clients}
    for descriptor in by_descriptor:
        poll.register(descriptor, select.POLLIN)
    end = time.perf_counter() + seconds
    for client in clients:
        client.begin()
    running = len(clients)
    while running:
        ready = poll.poll(1000 * _wait(clients, timeout))
        if not ready and not any(client.wake for client in clients):
            raise TimeoutError(f"no answer in {timeout:g} s")
        for descriptor, _ in ready:
            if by_descriptor[descriptor].receive():
                if time.perf_counter() < end:
                    by_descriptor[descriptor].begin()
                else:
                    running -= 1
        _wake(clients)


def _wait(clients: Sequence[BenchClient], timeout: float) -> float:
    """Return the seconds until the first client has to ask again; `timeout` if none has to."""
    due = [client.wake for client in clients if client.wake is not None]
    return max(0.0, min(due) - time.perf_counter()) if due else timeout


def _wake(clients: Sequence[BenchClient]) -> None:
    now = time.perf_counter()
    for client in clients:
        if client.wake is not None and client.wake <= now:
            client.ask_again()
