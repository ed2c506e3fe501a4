"""Calls that race: several sockets to one partition of a real server. A model checks every answer.

All sockets belong to one thread. It notes the moment before it sends a call, and the moment after it has
received an answer. `chance` chooses the socket of the next call, and the moments when it reads answers.
"""

from __future__ import annotations

import select
import socket
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from hcall_abi.structures import Config
from hcall_client import calls
from hcall_client.calls import Authorization, Confirmation, HcallError, Labels, ObjectRead
from hcall_client.conversation import Conversation, OpenRequest, Pending
from hcall_client.request import Request
from swpks.testing import ServerProcess
from tests.hcalls.model import Model
from tests.soak.linear import Call, State, confirmed, freeze, outcomes, thaw

LANES, LONGEST = 4, 5
KBYTES = 4
LABELS = ((3, b"x"), (3, b"y"), (1, b"x"), (2, b"z"))
GUARDED = 2
"""The consumer whose password is set by the first socket."""
POLICIES = (0, 0, 0, 0x0800_0000, 0x0200_0000)
PATIENCE_MS = 20_000
ROUNDS_OF_AN_IPL = 40


class Race(Exception):
    """The server did not answer, or it ended a session."""


class Wish:
    """A call to make, with the function that checks its answer."""

    def __init__(self, words: str, request: Request[Any], legal: Any) -> None:
        self.words, self.request, self.legal = words, request, legal

    def answer(self, pending: Pending) -> Any:
        """Return the answer in the form of the model."""
        try:
            result = self.request.parse(pending.result())
        except HcallError as error:
            return (error.status, 0) if "confirm" in self.words else error.status
        match result:
            case ObjectRead():
                return int(result.policy), result.data
            case Confirmation():
                return (0 if result.present or not result.flushed else -7), int(result.flushed)
            case Labels():
                return sorted(result.labels)
            case Config():
                return result.used_space
        return 0


class Lane:
    """One connection with its session, and the password that it tries to set."""

    def __init__(self, path: Path, password: bytes) -> None:
        self.password = password
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self.talk = Conversation(OpenRequest())
        while self.talk.opened is None:
            self.talk.receive(self.socket.recv(65536))
            self.socket.sendall(self.talk.take_outgoing())
            if self.talk.ended:
                raise Race(str(self.talk.ended))

    def send(self, request: Request[Any]) -> Pending:
        """Send a call without waiting for its answer."""
        pending = self.talk.submit(request)
        self.socket.sendall(self.talk.take_outgoing())
        return pending

    def receive(self) -> None:
        """Read the answers that have arrived."""
        self.talk.receive(self.socket.recv(65536))
        if self.talk.ended:
            raise Race(str(self.talk.ended))


class Races:
    """Rounds of racing calls. A round begins in every state in which the last one may have ended."""

    def __init__(self, path: Path, chance: Random) -> None:
        self.chance = chance
        self.path = path
        self.lanes = self._connected()
        self.total = KBYTES * 1024
        self.states: set[State] = {freeze(Model(self.total, "FW1110"))}
        self.calls = 0
        self.overlapping = 0
        self.widest = 1
        self._moment = 0
        self._data = 0

    def close(self) -> None:
        """End the sessions."""
        for lane in self.lanes:
            lane.socket.close()

    def restarted(self) -> None:
        """Open new sessions after an IPL. The model drops passwords and TRANSIENT objects."""
        self.close()
        self.lanes = self._connected()
        models = [thaw(state, self.total) for state in self.states]
        for model in models:
            model.ipl(0)
        self.states = {freeze(model) for model in models}

    def _connected(self) -> list[Lane]:
        return [Lane(self.path, b"password %d" % number) for number in range(LANES)]

    def round(self) -> None:
        """Make calls on each socket. If no order of them explains all answers, raise NotLinearizable."""
        wishes = [[self._wish(lane) for _ in range(self.chance.randint(1, LONGEST))] for lane in self.lanes]
        history = self._run(wishes)
        self.calls += sum(map(len, history))
        self.overlapping += sum(
            any(a.called < b.answered and b.called < a.answered for b in other)
            for n, lane in enumerate(history)
            for a in lane
            for other in history[n + 1 :]
        )
        self.states = outcomes(history, self.states, self.total)
        self.widest = max(self.widest, len(self.states))

    def _run(self, wishes: list[list[Wish]]) -> list[list[Call]]:
        unsent = [deque(lane) for lane in wishes]
        flying: list[deque[tuple[Wish, Pending, int]]] = [deque() for _ in wishes]
        history: list[list[Call]] = [[] for _ in wishes]
        while any(unsent) or any(flying):
            ready = [n for n, lane in enumerate(unsent) if lane and len(flying[n]) < 3]
            if ready and self.chance.random() < 0.6:
                number = self.chance.choice(ready)
                wish, called = unsent[number].popleft(), self._now()
                flying[number].append((wish, self.lanes[number].send(wish.request), called))
                continue
            for number in self._answered(flying, wait=not ready):
                self.lanes[number].receive()
                moment = self._now()
                while flying[number] and flying[number][0][1].done:
                    wish, pending, called = flying[number].popleft()
                    answer = wish.answer(pending)
                    history[number].append(Call(wish.words, wish.legal, called, moment, answer))
        return history

    def _answered(self, flying: list[deque[Any]], *, wait: bool) -> Iterator[int]:
        """Return the connections that have answers; with `wait`, wait until there is one."""
        poll = select.poll()
        numbers = {self.lanes[n].socket.fileno(): n for n, lane in enumerate(flying) if lane}
        for descriptor in numbers:
            poll.register(descriptor, select.POLLIN)
        found = poll.poll(PATIENCE_MS if wait else 0)
        if wait and not found:
            raise Race("no answer")
        return (numbers[descriptor] for descriptor, _ in found)

    def _now(self) -> int:
        # A counter is enough as a clock, because one thread stamps all moments.
        self._moment += 1
        return self._moment

    def _wish(self, lane: Lane) -> Wish:
        """Return a random call on one of the few labels."""
        owner, label = self.chance.choice(LABELS)
        password = lane.password if owner == GUARDED and self.chance.random() < 0.8 else b""
        kind = self.chance.choices(_KINDS, _WEIGHTS)[0]
        return kind(self, owner, label, password)

    def _write(self, owner: int, label: bytes, password: bytes) -> Wish:
        self._data += 1
        data = b"%d " % self._data + bytes(self.chance.choice((0, 40, 1200)))
        policy = self.chance.choice(POLICIES)
        request = calls.write_object(Authorization(owner, password), label, data, policy)
        words = f"write {owner} {label!r} number {self._data} of {len(data)} bytes, policy {policy:#x}"
        return Wish(words, request, lambda m, a: m.write(owner, label, data, policy, password) == a)

    def _read(self, owner: int, label: bytes, password: bytes) -> Wish:
        def legal(model: Model, answer: Any) -> bool:
            status, _, policy, data = model.read(owner, label, 4000, password)
            return bool(answer == ((policy, data) if status == 0 else status))

        request = calls.read_object(Authorization(owner, password), label, 4000)
        return Wish(f"read {owner} {label!r}", request, legal)

    def _remove(self, owner: int, label: bytes, password: bytes) -> Wish:
        request = calls.remove_object(Authorization(owner, password), label)
        return Wish(f"remove {owner} {label!r}", request, lambda m, a: m.remove(owner, label, password) == a)

    def _confirm(self, owner: int, label: bytes, password: bytes) -> Wish:
        request = calls.confirm_object_flushed(Authorization(owner, password), label)
        return Wish(
            f"confirm {owner} {label!r}", request, lambda m, a: confirmed(m, owner, label, password, a)
        )

    def _list(self, owner: int, _: bytes, password: bytes) -> Wish:
        def legal(model: Model, answer: Any) -> bool:
            found = model.labels(owner, password)
            return bool(answer == (-10 if found is None else sorted(found)))

        request = calls.get_object_labels(Authorization(owner, password), 0, 1024)
        return Wish(f"list {owner}", request, legal)

    def _config(self, *_: object) -> Wish:
        return Wish("used space", calls.get_config(), lambda model, answer: model.used == answer)

    def _set_password(self, owner: int, _: bytes, password: bytes) -> Wish:
        if owner != GUARDED or not password:
            return self._config()
        request = calls.set_password(owner, password)
        return Wish(f"set {password!r}", request, lambda m, a: m.set_password(owner, password) == a)


def race(folder: Path, chance: Random, rounds: int) -> dict[str, int]:
    """Let calls race on a new server for a number of rounds, with IPLs between them; return the figures."""
    server = ServerProcess(folder / "state", [f"a:{KBYTES}"], ["--flush-delay", "1"]).start()
    try:
        races = Races(server.socket("a"), chance)
        for number in range(rounds):
            if number % ROUNDS_OF_AN_IPL == ROUNDS_OF_AN_IPL - 1:
                server.ipl("a")
                races.restarted()
            races.round()
        races.close()
        assert server.stop() == 0
    finally:
        server.kill()
    return {
        "rounds": rounds,
        "calls": races.calls,
        "pairs that overlap": races.overlapping,
        "most states that were possible": races.widest,
    }


_KINDS: tuple[Callable[[Races, int, bytes, bytes], Wish], ...] = (
    Races._write,
    Races._read,
    Races._remove,
    Races._confirm,
    Races._list,
    Races._config,
    Races._set_password,
)
_WEIGHTS = (6, 6, 4, 5, 1, 1, 1)
