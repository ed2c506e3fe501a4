"""The guests of a partition: they write, confirm and read objects, on whichever system serves them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import trio

from hcall_abi.errors import SwpksError
from hcall_abi.frames import GoodbyeReason
from hcall_abi.policies import Policy
from hcall_abi.statuses import Status
from hcall_client import calls
from hcall_client.calls import Authorization
from hcall_client.channel import Channel, open_channel
from hcall_client.errors import HcallError, OpenRefused, SessionEnded
from hcall_client.request import Request
from swpks.testing.simulation.histories import GUARDED, KEPT, VOLATILE, Answer, Did, GuestCall
from swpks.testing.simulation.sites import Served, Site, Surroundings
from swpks.testing.simulation.trace import MARK

OWNERS = {GUARDED: 2}
OTHERS = 3
SIZE = 2000
NOT_RUN = frozenset({Status.H_R_STATE, Status.H_BUSY})
"""The statuses of a call that has not run."""
ANSWERS = {
    Status.H_RESOURCE: Answer.TAKEN,
    Status.H_IN_USE: Answer.TAKEN,
    Status.H_NOT_FOUND: Answer.ABSENT,
    Status.H_AUTHORITY: Answer.DENIED,
}
AT_ONCE = (1, 1, 1, 2, 3)
"""The numbers of calls that a guest makes at once; one of these is drawn."""
PATIENCE = 4.0
"""Seconds after which a guest leaves a session without an answer."""


class Visit(NamedTuple):
    """The calls of one connection in their order, and the server's end of that connection."""

    calls: list[GuestCall]
    served: Served

    def known(self) -> list[GuestCall]:
        """Return the calls that the history needs: all calls that may have run.

        A call without an answer may have run at any time before the end of the connection.
        """
        # The bound saves work: a call that may run at any later time doubles the work of the checker.
        ended = math.inf if self.served.ended is None else self.served.ended
        made = [call for call in self.calls if call.called < ended and call.answer is not Answer.NEVER]
        return [each._replace(answered=ended) if each.answer is Answer.UNKNOWN else each for each in made]


class Guests:
    """The guests of the partition `name`; `key` is the partition's access key, b"" before it is known."""

    def __init__(self, name: str, sites: Sequence[Site], around: Surroundings) -> None:
        self.name = name
        self.sessions: list[Visit] = []
        self.calls = 0
        self.over = False
        self.key = b""
        self._sites = sites
        self._around = around
        self._written = 0
        self._password = b""

    def __repr__(self) -> str:
        return f"Guests({self.name!r}, {self.calls} calls)"

    async def run(self, number: int, pace: float) -> None:
        """Open sessions at random systems and make calls as one of the guests, until `over` is set."""
        chance = self._around.chance(f"guest {self.name} {number}")
        # A guest asks any system, not only the owner. So the guests also find a system that serves and must
        # not.
        while not self.over:
            site, longest = chance.choice(self._sites), 0.4
            try:
                stream, served = site.connect(self.name)
                async with open_channel(stream, access_key=self.key) as channel:
                    session = Visit([], served)
                    self.sessions.append(session)
                    await self._talk(channel, session, site, number, pace)
            except OpenRefused:
                longest = 1.6  # a longer pause: handshakes are the largest part of the simulation's real time
            except (OSError, SwpksError):
                pass
            await trio.sleep(chance.uniform(0.05, longest))

    async def greet(self, site: Site) -> None:
        """Make one call in a new session; raise an error of the session or the call."""
        stream, _ = site.connect(self.name)
        async with open_channel(stream, access_key=self.key) as channel:
            await channel.limits()

    async def look(self, site: Site) -> None:
        """Read all persistent objects, and enter the read into the history as one call; raise any error."""
        stream, served = site.connect(self.name)
        async with open_channel(stream, access_key=self.key) as channel:
            called, found = self._around.trace.moment(), []
            for label in KEPT:
                owner = OWNERS.get(label, OTHERS)
                password = self._password if label == GUARDED else b""
                found.append(await _read(channel, Authorization(owner), label, password))
            call = GuestCall(called, self._around.trace.moment(), site.name, channel.ipl_count, Did.LOOK)
            self.sessions.append(Visit([call._replace(answer=tuple(found))], served))

    async def _talk(self, channel: Channel, session: Visit, site: Site, number: int, pace: float) -> None:
        """Make up to 12 rounds of calls; return earlier if the session ends or an answer does not come."""
        # Each visit has a random generator of its own. So the length of one visit does not change the next
        # visit.
        chance = self._around.chance(f"talk {self.name} {number} {len(self.sessions)}")
        for _ in range(chance.randint(1, 12)):
            if self.over:
                return
            wishes = [
                self._wish(chance.random(), chance.choice([*KEPT, *VOLATILE]), chance.random())
                for _ in range(chance.choice(AT_ONCE))
            ]
            named = [
                (request, call._replace(system=site.name, ipl=channel.ipl_count)) for request, call in wishes
            ]
            with trio.move_on_after(PATIENCE) as waiting:
                if len(named) == 1:
                    await self._make(channel, session, *named[0])
                else:
                    async with trio.open_nursery() as nursery:
                        for each in named:
                            nursery.start_soon(self._make, channel, session, *each)
            if waiting.cancelled_caught or channel.ended:
                return
            await trio.sleep(chance.expovariate(1 / pace))

    async def _make(self, channel: Channel, session: Visit, request: Request[Any], call: GuestCall) -> None:
        """Make a call, and enter it into the history of its connection."""
        # No checkpoint comes between this line and the send of the call. So the history has the calls in the
        # order in which they are sent.
        entry = len(session.calls)
        trace = self._around.trace
        session.calls.append(call := call._replace(called=trace.moment()))
        self.calls += 1
        try:
            answer = await _answer(channel, request)
            session.calls[entry] = call._replace(answered=trace.moment(), answer=answer)
        except SessionEnded as error:
            if error.reason is GoodbyeReason.MIGRATED:  # calls without an answer have not run
                session.calls[entry] = call._replace(answer=Answer.NEVER)
        except SwpksError:
            pass
        finally:
            trace.note("guest", str(session.calls[entry]))

    def _wish(self, kind: float, label: str, luck: float) -> tuple[Request[Any], GuestCall]:
        """Return a random call and its entry for the history; `kind` and `luck` are random numbers."""
        # Each object and each password has a new number. So a read shows which write it has read.
        owner = OWNERS.get(label, OTHERS)
        password = self._password if label == GUARDED and luck < 0.8 else b""
        who, name = Authorization(owner, password), label.encode()
        entry = GuestCall(0, math.inf, "", 0, Did.READ, label, b"", password)
        if label == GUARDED and kind < 0.2:
            self._written += 1
            self._password = password = MARK + b"password %d" % self._written
            request = calls.set_password(owner, password)
            return request, entry._replace(did=Did.SET, password=password)
        if kind < 0.35:
            self._written += 1
            data = MARK + b"object %d" % self._written
            policy = int(Policy.TRANSIENT) if label in VOLATILE else 0
            return calls.write_object(who, name, data, policy), entry._replace(did=Did.WRITE, data=data)
        if kind < 0.55:
            return calls.remove_object(who, name), entry._replace(did=Did.REMOVE)
        if kind < 0.75 and label not in VOLATILE:
            return calls.confirm_object_flushed(who, name), entry._replace(did=Did.CONFIRM)
        return calls.read_object(who, name, SIZE), entry


async def _answer(channel: Channel, request: Request[Any]) -> Answer | bytes:
    """Make a call, and return its answer in the form that the model uses."""
    try:
        result = await channel.call(request)
    except HcallError as error:
        status = Status(error.status)
        if status in NOT_RUN:
            return Answer.NEVER
        # No other status is right for these calls, so the RuntimeError has to end the simulation. The guests
        # catch only errors of the product.
        if status not in ANSWERS:
            raise RuntimeError(f"a guest gets the answer {status.name} from a partition that runs") from None
        return ANSWERS[status]
    if isinstance(result, calls.ObjectRead):
        return result.data
    if isinstance(result, calls.Confirmation):
        if not result.flushed:
            return Answer.PENDING
        return Answer.FLUSHED if result.present else Answer.ABSENT
    return Answer.DONE


async def _read(channel: Channel, who: Authorization, label: str, password: bytes) -> bytes | None:
    """Return an object, None if the label has none.

    RuntimeError if neither the last password nor an empty one is right: an older password must be set still.
    """
    for each in dict.fromkeys([password, b""]):
        try:
            request = calls.read_object(who._replace(password=each), label.encode(), SIZE)
            return (await channel.call(request)).data
        except HcallError as error:
            if error.status == Status.H_NOT_FOUND:
                return None
            if error.status != Status.H_AUTHORITY:
                raise
    raise RuntimeError(f"an older password is set still: the last one is refused for {label}")
