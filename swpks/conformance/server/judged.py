"""The server under judgement: the sessions, calls, passwords and objects of the cases.

Each case gets the same `Judged`.  The main session stays open between cases.  If a case loses the session,
the next call opens a new one.

At the end of a case, its objects are removed.  IMMUTABLE objects stay, because no call removes them.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from hcall_abi.calls import Opcode
from hcall_abi.codec import encode
from hcall_abi.errors import PeerError
from hcall_abi.frames import Goodbye, GoodbyeReason, HCall, Hello, HReturn, Opened
from hcall_abi.levels import FirmwareLevel
from hcall_abi.policies import Policy
from hcall_abi.statuses import Status, status_name
from hcall_abi.structures import Config
from swpks.conformance.case import Deviation, NotRun, RunStage
from swpks.conformance.server.answers import Returned, checked
from swpks.conformance.server.connection import RawConnection, ServerPlace
from swpks.conformance.server.draft import Draft, auth_block

T = TypeVar("T")

FIRMWARE, BOOT_LOADER, SYSTEM = 1, 2, 3
CONSUMERS = (FIRMWARE, BOOT_LOADER, SYSTEM)
LEAST_FLAGS = 0x1000_0000_0000_0001
"""Wrap flags: PWSET, which is always demanded, and algorithm 1."""
ROOM = 0xFFFF
"""Bytes of the buffer of a READ, unless a case chooses others."""
MOST_PARTS = 100
"""Parts of a label list; the judge has few objects at a time, so a longer list does not end."""
PAUSE = 0.01
"""Seconds before a busy call is made again."""
SHOWN = 16
"""Most lines of a dialogue that a report shows."""


@dataclass(frozen=True)
class Facts:
    """The properties of the judged partition, which the judge reads before the first case.

    `mode` is the secure-boot mode (0 off, 1 audit, 2 enforce), `ipl_count` the IPL count of the first OPENED.
    """

    level: FirmwareLevel
    config: Config
    hello: Hello
    mode: int
    ipl_count: int

    @property
    def largest_object(self) -> int:
        """Bytes of data in the largest object that the partition takes."""
        return max(self.config.max_large_object_size, self.config.max_object_size)

    @property
    def room(self) -> int:
        """Bytes of the store that are free at the start."""
        return self.config.total_size - self.config.used_space


class JudgedSession:
    """An open session.  It checks each answer by the rules that hold for all calls."""

    def __init__(self, connection: RawConnection, opened: Opened) -> None:
        self.connection = connection
        self.opened = opened
        self._tag = 1

    def call(self, draft: Draft) -> Returned:
        """Make one call and wait for its answer."""
        (answer,) = self.calls([draft])
        return answer

    def calls(self, drafts: list[Draft]) -> list[Returned]:
        """Send several calls at once; return their answers, which must come in the order of the calls."""
        frames = [self._frame(draft) for draft in drafts]
        self.connection.send(b"".join(map(encode, frames)), "; ".join(map(str, drafts)))
        return [checked(draft, frame, self._answer()) for draft, frame in zip(drafts, frames, strict=True)]

    def goodbye(self) -> None:
        """Send GOODBYE with reason 0, as a client should at the end of a session."""
        self.connection.send(encode(Goodbye(GoodbyeReason.DONE, "done")), "GOODBYE reason 0")

    def _frame(self, draft: Draft) -> HCall:
        self._tag += 1
        return draft.frame(self._tag)

    def _answer(self) -> HReturn:
        frame = self.connection.frame("HRETURN")
        if not isinstance(frame, HReturn):
            raise Deviation("HRETURN", f"another frame: {frame!r}")
        return frame


@dataclass
class Judged:
    """The server under judgement.  `passwords` has the passwords that the judge has set in this IPL."""

    place: ServerPlace
    facts: Facts
    stage: RunStage = RunStage.UNSET
    passwords: dict[int, bytes] = field(default_factory=dict, repr=False)
    dialogue: list[str] = field(default_factory=list)
    kept: dict[str, object] = field(default_factory=dict, repr=False)
    """Values that a case leaves for a later one, such as an object that has to survive the IPL."""
    lasting: set[tuple[int, bytes]] = field(default_factory=set)
    """Objects that are needed by several cases: removed at the end of the run."""
    prefix: bytes = field(default_factory=lambda: b"conformance " + os.urandom(6).hex().encode() + b" ")
    _session: JudgedSession | None = None
    _connections: list[RawConnection] = field(default_factory=list)
    _lasting_connections: list[RawConnection] = field(default_factory=list)
    _made: set[tuple[int, bytes]] = field(default_factory=set)
    _count: int = 0

    # Connections

    def connect(self, *, lasting: bool = False) -> RawConnection:
        """Return a new connection.

        The end of the case closes it.  With `lasting`, it stays open until the end of the run.
        """
        connection = RawConnection(self.place, self.note)
        (self._lasting_connections if lasting else self._connections).append(connection)
        return connection

    def open(self) -> JudgedSession:
        """Return a new session; it is closed at the end of the case."""
        return opened_on(self.connect())

    @property
    def session(self) -> JudgedSession:
        """The main session, opened again if it was lost."""
        if self._session is None:
            connection = RawConnection(self.place, self.note)
            try:
                self._session = opened_on(connection)
            except BaseException:
                connection.close()
                raise
        return self._session

    def note(self, line: str) -> None:
        """Add a line to the dialogue of the case."""
        self.dialogue.append(line)

    # Calls

    def call(self, draft: Draft) -> Returned:
        """Make a call over the main session; return its answer.

        If the answer is busy, the judge repeats the call for `patience` seconds.

        NotRun if the level lacks the call: other cases judge that.  NotRun also if the body would be longer
        than `max_body` of HELLO.
        """
        self.demand(draft.spec.opcode)
        if draft.body_size > self.facts.hello.max_body:
            raise NotRun(f"needs a body of {draft.body_size} bytes, more than max_body of HELLO")
        until = time.monotonic() + self.place.patience
        answer = self.session.call(draft)
        while answer.busy and time.monotonic() < until:
            time.sleep(PAUSE)
            draft.go_on(answer.registers)
            answer = self.session.call(draft)
        return answer

    def do(self, opcode: Opcode, **values: int | bytes) -> Returned:
        """Make a call with these arguments over the main session; return its answer."""
        return self.call(Draft.of(opcode, **values))

    def demand(self, opcode: Opcode) -> None:
        """Raise NotRun if the partition does not have a call."""
        if opcode not in self.facts.level.calls:
            raise NotRun(f"{self.facts.level.name} has no {opcode.name}")
        if opcode is Opcode.SIGNED_UPDATE and not self.facts.config.signed_update_algorithms:
            raise NotRun("signed updates are off; set keystore_signed_updates=1 for the partition")

    def auth(self, consumer: int = SYSTEM, password: bytes | None = None) -> bytes:
        """Return an authorization block, by default with the password that is set."""
        known = self.passwords.get(consumer, b"")
        return auth_block(consumer, known if password is None else password)

    def label(self, name: str = "") -> bytes:
        """Return a label of this run.

        Without a name the label is new.  The same name always gives the same label.
        """
        self._count += 1
        return self.prefix + (name or f"object {self._count}").encode()

    def write(
        self, label: bytes, data: bytes = b"data", policy: int = 0, *, by: int = SYSTEM, auth: bytes = b""
    ) -> Returned:
        """Make WRITE_OBJECT; return its answer."""
        answer = self.do(
            Opcode.WRITE_OBJECT, authorization=auth or self.auth(by), label=label, policy=policy, data=data
        )
        return self._noted(answer, by, label, policy)

    def gen_key(
        self,
        label: bytes,
        policy: int = Policy.WRAPPINGKEY,
        *,
        by: int = SYSTEM,
        auth: bytes = b"",
        length: int = 32,
    ) -> Returned:
        """Make GEN_KEY; return its answer.  For a wrapping key, the call has no buffer."""
        draft = Draft.of(Opcode.GEN_KEY, authorization=auth or self.auth(by), label=label, policy=policy)
        if policy & Policy.WRAPPINGKEY:
            draft.registers["key_length"] = length
        else:
            draft.put("key", length)
        return self._noted(self.call(draft), by, label, policy)

    def read(self, label: bytes, *, by: int = SYSTEM, room: int = ROOM, auth: bytes = b"") -> Returned:
        """Make READ_OBJECT; return its answer."""
        return self.do(Opcode.READ_OBJECT, authorization=auth or self.auth(by), label=label, data=room)

    def remove(self, label: bytes, *, by: int = SYSTEM, auth: bytes = b"") -> Returned:
        """Make REMOVE_OBJECT; return its answer."""
        answer = self.do(Opcode.REMOVE_OBJECT, authorization=auth or self.auth(by), label=label)
        if answer.status == Status.H_SUCCESS:
            self._made.discard((by, label))
        return answer

    def about(self, opcode: Opcode, label: bytes, *, by: int = SYSTEM, auth: bytes = b"") -> Returned:
        """Make CONFIRM_OBJECT_FLUSHED, REVOKE_OBJECT or UNREVOKE_OBJECT on a label; return its answer."""
        return self.do(opcode, authorization=auth or self.auth(by), label=label)

    def labels(self, *, by: int = SYSTEM, token: int = 0, room: int = 4096, auth: bytes = b"") -> Returned:
        """Make one call of GET_OBJECTLABELS; return its answer."""
        return self.do(Opcode.GET_OBJECTLABELS, authorization=auth or self.auth(by), token=token, labels=room)

    def wrap(
        self,
        label: bytes,
        data: bytes = b"secret",
        flags: int = LEAST_FLAGS,
        *,
        by: int = SYSTEM,
        auth: bytes = b"",
    ) -> Returned:
        """Make WRAP_OBJECT with a buffer of the exact size; return its answer."""
        return self.do(
            Opcode.WRAP_OBJECT,
            authorization=auth or self.auth(by),
            label=label,
            flags=flags,
            input=data,
            # A wrapped object is 1024 bytes longer than its input (spec/wrapped.md).
            output=len(data) + 1024,
        )

    def unwrap(self, wrapped: bytes, *, by: int = SYSTEM, auth: bytes = b"") -> Returned:
        """Make UNWRAP_OBJECT with a buffer of the exact size; return its answer."""
        # A damaged object may be shorter than 1024 bytes; then the buffer has no bytes.
        return self.do(
            Opcode.UNWRAP_OBJECT,
            authorization=auth or self.auth(by),
            input=wrapped,
            output=max(0, len(wrapped) - 1024),
        )

    def used(self) -> int:
        """Return the used space that GET_CONFIG reports."""
        # The offset is copied from spec/structures.md.  The server uses the parser of `hcall_abi`, so
        # with that parser this check could not notice a wrong offset.
        block = self.do(Opcode.GET_CONFIG, config=24).expect(Status.H_SUCCESS).written
        return int.from_bytes(block[16:20], "big")

    def made(self, label: bytes, *, by: int = SYSTEM) -> None:
        """Have the end of the case remove an object.

        `write` and `gen_key` do that for their own objects.
        """
        self._made.add((by, label))

    def keep(self, label: bytes, *, by: int = SYSTEM) -> None:
        """Leave an object in the store until the end of the run."""
        self._made.discard((by, label))
        self.lasting.add((by, label))

    def remembered(self, name: str, kind: type[T]) -> T:
        """Return a value that the first part of a case left in `kept`."""
        value = self.kept[name]
        if not isinstance(value, kind):
            raise TypeError(f"{name} is no {kind.__name__}")
        return value

    # The end of a case

    def tidy(self) -> None:
        """Close the connections of a case and remove its objects; an error is no deviation."""
        for connection in self._connections:
            connection.close()
        self._connections.clear()
        # An error is ignored: the case has its verdict, and REMOVE_OBJECT has its own cases.
        try:
            for by, label in sorted(self._made):
                with contextlib.suppress(NotRun):
                    self.remove(label, by=by)
        except (Deviation, PeerError, OSError):
            # The other objects stay: each further REMOVE could take the whole patience.  A late answer may
            # come on the session, so the session is closed.
            self.lose_session()
        self._made.clear()

    def finish(self) -> None:
        """Remove the objects that were kept for the run, and close all connections."""
        self.tidy()
        self._made = set(self.lasting)
        self.tidy()
        self.close()

    def close(self) -> None:
        """Close all connections, and the main session."""
        for connection in self._connections + self._lasting_connections:
            connection.close()
        self.lose_session()

    def lose_session(self) -> None:
        """Close the main session: after a failed case, late answers may come on it."""
        if self._session is not None:
            self._session.connection.close()
        self._session = None

    def _noted(self, answer: Returned, by: int, label: bytes, policy: int) -> Returned:
        # Every REMOVE of an IMMUTABLE object is refused, so the object is not noted.
        if answer.status == Status.H_SUCCESS and not policy & Policy.IMMUTABLE:
            self._made.add((by, label))
        return answer


def opened_on(connection: RawConnection) -> JudgedSession:
    """Open a session on a new connection; Deviation if the server refuses."""
    opened = connection.open(connection.hello())
    if opened.status:
        raise Deviation("OPENED with status 0", f"status {opened.status}")
    return JudgedSession(connection, opened)


def all_labels(judged: Judged, by: int = SYSTEM) -> list[bytes]:
    """Return every label of a consumer, with as many calls as the list has parts."""
    found: list[bytes] = []
    token = 0
    for _ in range(MOST_PARTS):
        answer = judged.labels(by=by, token=token)
        if answer.status not in (Status.H_SUCCESS, Status.H_CONTINUE):
            raise Deviation("H_SUCCESS or H_CONTINUE", status_name(answer.status))
        found += parsed_labels(answer)
        token = answer.output("token")
        if answer.status == Status.H_SUCCESS:
            return found
    raise Deviation("a list that ends", f"H_CONTINUE in {MOST_PARTS} parts of it")


def parsed_labels(answer: Returned) -> list[bytes]:
    """Return the labels in one answer; Deviation if the list does not agree with its count."""
    listed, labels = answer.written, []
    for _ in range(answer.output("count")):
        end = 2 + int.from_bytes(listed[:2], "big")
        if len(listed) < end or end == 2:
            raise Deviation(f"a list of {answer.output('count')} labels", f"{len(answer.written)} bytes")
        labels.append(listed[2:end])
        listed = listed[end:]
    if listed:
        raise Deviation("nothing behind the last label", f"{len(listed)} bytes")
    return labels


Attempt = Callable[[Judged], None]
"""The code of a case."""
