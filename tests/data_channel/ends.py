"""Both ends of a session without I/O: a server's conversation, and a client that sends raw frames."""

import itertools
from collections.abc import Iterable

from hcall_abi.exchange import Event, Role
from hcall_abi.frames import Frame, Hello, Open, Opened, OpenStatus
from hcall_abi.proof import NO_PROOF
from hcall_abi.session import Session
from hcall_server.data_channel.conversation import ServerConversation
from hcall_server.data_channel.opening import ListenerFacts
from hcall_server.machine import logs
from hcall_server.machine.machine import Machine
from hcall_server.machine.sessions import Link
from tests.data_channel.support import answers, make_machine

OPEN = Open(7, 0, 0, bytes(32), NO_PROOF, "test")


class End:
    """A conversation of the server, and a client's session that exchanges raw frames with it."""

    def __init__(self, machine: Machine | None = None, *, demand_proof: bool = False) -> None:
        self.machine = machine or make_machine("alpha", "beta")
        self.woken = 0
        self.link = Link(0.0, self._wake)
        self.machine.sessions.admit(self.link)
        facts = ListenerFacts(self.machine.system.find("alpha"), demand_proof)
        self.conversation = ServerConversation(self.machine, self.link, facts, logs.Log())
        self.client = Session(Role.CLIENT)
        self._tag = 0
        assert isinstance(self.heard([self.conversation.greet()])[0], Hello)

    def _wake(self) -> None:
        self.woken += 1

    def heard(self, pieces: Iterable[bytes]) -> list[Event]:
        """Return the client's events for the server's bytes."""
        self.client.receive_data(b"".join(pieces))
        return list(self.client.events())

    def say(self, *frames: Frame) -> list[Event]:
        """Send frames in one piece; return the answers."""
        return self.heard(answers(self.conversation, self.sent(*frames)))

    def sent(self, *frames: Frame) -> bytes:
        """Return the bytes of frames that the client may send."""
        return b"".join(self.client.send(frame) for frame in frames)

    def calls(self, *requests) -> bytes:
        """Return the bytes of calls with new tags."""
        tags = itertools.count(self._tag + 1)
        self._tag += len(requests)
        return self.sent(*(request.frame(next(tags)) for request in requests))

    def run(self, *requests) -> list[Event]:
        """Make calls in one piece; return the answers."""
        return self.heard(answers(self.conversation, self.calls(*requests)))


def opened(machine: Machine | None = None) -> End:
    """Return both ends of an open session."""
    end = End(machine)
    (answer,) = end.say(OPEN)
    assert isinstance(answer, Opened)
    assert answer.status == OpenStatus.OPENED
    return end
