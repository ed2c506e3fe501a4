"""Fault plans without a server: which call is busy, for how long, and what the guest gets."""

import pytest

from hcall_abi.calls import CALLS, Opcode
from hcall_abi.errors import OperatorError
from hcall_abi.faults import BusyFault, checked_plan, parse_fault
from hcall_abi.statuses import Status
from hcall_server.faults.busy import BusyCalls
from hcall_server.faults.plan import Plan
from hcall_server.hcalls.dispatch import HypervisorCalls
from hcall_server.hcalls.handlers import HANDLERS
from hcall_server.hcalls.refusals import Refusal
from tests.data_channel.support import make_machine
from tests.guest import Answer, Guest, make_partition

WORD = b"the word of the operating system"
WITH_TOKEN = ("SIGNED_UPDATE", "WRAP_OBJECT", "UNWRAP_OBJECT")
SERVED_WITH_TOKEN = [name for name in WITH_TOKEN if Opcode[name] in HANDLERS]
LONG = [status.name for status in Status if status.name.startswith("H_LONG_BUSY")]


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class FaultyGuest(Guest):
    """A guest whose partition has a fault plan."""

    def __init__(self, *faults: str, level: str = "NEXT", running: bool = True, kbytes: int = 64) -> None:
        super().__init__(make_partition(level, kbytes, running=running))
        self.clock = Clock()
        self.plan = Plan(map(parse_fault, faults))
        self._calls = BusyCalls(self._calls, self.partition, self.plan, self.clock, self._note)

    def _note(self, refusal: Refusal, opcode: int) -> None:
        self.refusals.append(refusal)

    def pattern(self, calls: int) -> str:
        """READ an absent object `calls` times; return B for each busy answer and a dot for each real one."""
        return "".join("B" if self.read(3, b"x") == Answer(1) else "." for _ in range(calls))


@pytest.mark.parametrize(
    "faults,pattern",
    [
        (["READ_OBJECT=H_BUSY"], "B....."),
        (["READ_OBJECT=H_BUSY,nth=3"], "..B..."),
        (["READ_OBJECT=H_BUSY,times=4"], "BBBB.."),
        (["READ_OBJECT=H_BUSY,nth=2,times=3"], ".BBB.."),
        (["READ_OBJECT=H_BUSY", "READ_OBJECT=H_BUSY,nth=3,times=2"], "B.BB.."),
        (["READ_OBJECT=H_BUSY,times=2", "READ_OBJECT=H_BUSY,nth=2,times=2"], "BBB..."),
        (["WRITE_OBJECT=H_BUSY,times=9"], "......"),
    ],
)
def test_this_call_the_nth_time_so_often(faults: list[str], pattern: str) -> None:
    """R-75: a fault counts only the calls with its opcode, from the moment when the plan was set."""
    assert FaultyGuest(*faults).pattern(6) == pattern


def test_for_so_long() -> None:
    """R-75: the seconds of a fault begin with its first busy answer. When they end, the call is not busy."""
    guest = FaultyGuest("READ_OBJECT=H_BUSY,nth=2,seconds=2.5")
    guest.clock.now = 100.0
    assert guest.pattern(3) == ".BB"
    guest.clock.now = 102.4
    assert guest.pattern(2) == "BB"
    guest.clock.now = 102.5
    assert guest.pattern(3) == "..."
    assert guest.plan.planned[0].spent
    assert (guest.plan.planned[0].seen, guest.plan.planned[0].answered) == (8, 4)
    guest.clock.now = 100.0
    assert guest.pattern(2) == ".."


@pytest.mark.parametrize("name", [opcode.name for opcode in HANDLERS])
def test_every_call_can_be_busy_and_goes_on_as_if_nothing_had_been(name: str) -> None:
    """R-75: a busy call checks no arguments and changes nothing. The log names the rule of busy answers.

    The same call after the fault has its usual answer.
    """
    opcode = Opcode[name]
    guest, plain = FaultyGuest(f"{name}=H_BUSY"), Guest(make_partition("NEXT"))
    answer = guest.do(opcode)
    assert answer.status == Status.H_BUSY
    assert bool(answer.r4) == (name in WITH_TOKEN)
    assert (answer.r5, answer.written) == (0, b"")
    refusal: Refusal = guest.refusals[0]
    assert (refusal.status, refusal.rule.page) == (Status.H_BUSY, "spec/faults.md#busy-answers")
    assert guest.do(opcode) == plain.do(opcode)
    assert guest.partition.profile == plain.partition.profile


@pytest.mark.parametrize("name", SERVED_WITH_TOKEN)
@pytest.mark.parametrize("status", ["H_BUSY", *LONG])
def test_a_busy_call_keeps_its_token(name: str, status: str) -> None:
    """R-75: every busy answer of a fault has the same token.

    After the fault, the call is checked as usual.
    """
    opcode = Opcode[name]
    guest, plain = FaultyGuest(f"{name}={status},times=3"), Guest(make_partition("NEXT"))
    first = guest.do(opcode)
    assert (first.status, bool(first.r4)) == (Status[status], True)
    assert guest.do(opcode, token=first.r4) == guest.do(opcode, token=first.r4) == first
    assert guest.do(opcode, token=first.r4) == plain.do(opcode)


def test_wrap_and_unwrap_go_on_with_their_tokens() -> None:
    """R-71, R-75: after the fault, a token is accepted once, and only for the call that got it."""
    guest = FaultyGuest("WRAP_OBJECT=H_BUSY,times=2", "UNWRAP_OBJECT=H_LONG_BUSY_ORDER_10_MSEC")
    assert guest.set_password(3, WORD) == guest.gen_key(3, b"key", password=WORD) == Answer(0)
    status, token, _, _ = guest.wrap(3, b"key", b"secret", password=WORD)
    assert (status, guest.wrap(3, b"key", b"secret", token=token, password=WORD).r4) == (1, token)
    assert guest.unwrap(3, bytes(1030), token=token, password=WORD).status == Status.H_P7
    wrapped = guest.wrap(3, b"key", b"secret", token=token, password=WORD)
    assert (wrapped.status, wrapped.r5) == (0, 1030)
    assert guest.wrap(3, b"key", b"secret", token=token, password=WORD).status == Status.H_P9
    busy = guest.unwrap(3, wrapped.written, password=WORD)
    assert busy.status == 9901
    assert guest.unwrap(3, wrapped.written, token=busy.r4, password=WORD).written == b"secret"


@pytest.mark.parametrize("name", SERVED_WITH_TOKEN)
def test_a_token_that_was_never_given_out_is_not_busy(name: str) -> None:
    """R-75: a call with an unknown token, or that of another call, gets the usual checks.

    The fault does not count it.
    """
    opcode = Opcode[name]
    guest, plain = FaultyGuest(f"{name}=H_BUSY,times=5"), Guest(make_partition("NEXT"))
    assert guest.do(opcode, token=77) == plain.do(opcode, token=77)
    assert guest.plan.planned[0].seen == 0


def test_function_and_state_come_first() -> None:
    """R-35, R-75: a call that the partition lacks, or to a partition that is off, is never busy."""
    assert FaultyGuest("READ_OBJECT=H_BUSY", kbytes=0).do(Opcode.READ_OBJECT).status == Status.H_FUNCTION
    assert FaultyGuest("READ_OBJECT=H_BUSY", running=False).do(Opcode.READ_OBJECT).status == Status.H_STATE
    guest = FaultyGuest("WRAP_OBJECT=H_BUSY", level="FW950")
    assert guest.do(Opcode.WRAP_OBJECT).status == Status.H_FUNCTION
    assert guest.plan.planned[0].seen == 0


async def test_without_a_plan_nothing_stands_in_the_way() -> None:
    """R-75: a partition without a fault plan calls the engine itself, so the feature then costs no time."""
    machine = make_machine("a")
    partition = machine.system.find("a")
    assert type(machine.calls_of(partition, lambda *_: None)) is HypervisorCalls
    machine.set_faults("a", [parse_fault("READ_OBJECT=H_BUSY")])
    assert type(machine.calls_of(partition, lambda *_: None)) is BusyCalls
    machine.set_faults("a", [])
    assert type(machine.calls_of(partition, lambda *_: None)) is HypervisorCalls


@pytest.mark.parametrize("opcode", list(Opcode))
@pytest.mark.parametrize("status", list(Status))
def test_only_busy_statuses_of_the_call_can_be_planned(opcode: Opcode, status: Status) -> None:
    """R-75: a fault may have H_BUSY for any call, and a long busy status only for a call that lists it."""
    listed = status in CALLS[opcode].statuses and status.name in LONG
    if status is Status.H_BUSY or listed:
        assert BusyFault(opcode, status).status is status
    else:
        with pytest.raises(OperatorError, match="never answers"):
            BusyFault(opcode, status)


@pytest.mark.parametrize(
    "text,shown",
    [
        ("READ_OBJECT=H_BUSY", "READ_OBJECT=H_BUSY,nth=1,times=1"),
        ("WRAP_OBJECT=H_LONG_BUSY_ORDER_1_SEC,nth=7", "WRAP_OBJECT=H_LONG_BUSY_ORDER_1_SEC,nth=7,times=1"),
        ("GET_CONFIG=H_BUSY,nth=2,times=1000000", "GET_CONFIG=H_BUSY,nth=2,times=1000000"),
        ("GET_CONFIG=H_BUSY,seconds=0.25", "GET_CONFIG=H_BUSY,nth=1,seconds=0.25"),
    ],
)
def test_faults_are_written_as_they_are_read(text: str, shown: str) -> None:
    """R-75: the same text of a fault is used on the command line, in files and in fixtures."""
    assert str(parse_fault(text)) == shown
    assert parse_fault(shown) == parse_fault(text)


@pytest.mark.parametrize(
    "text",
    ["", "READ_OBJECT", "READ_OBJECT=", "READ=H_BUSY", "READ_OBJECT=BUSY", "READ_OBJECT=H_STATE",
     "READ_OBJECT=H_BUSY,nth=0", "READ_OBJECT=H_BUSY,times=0", "READ_OBJECT=H_BUSY,times=1000001",
     "READ_OBJECT=H_BUSY,seconds=0", "READ_OBJECT=H_BUSY,seconds=3600.1", "READ_OBJECT=H_BUSY,seconds=1e3",
     "READ_OBJECT=H_BUSY,times=1,seconds=1", "READ_OBJECT=H_BUSY,nth=-1", "READ_OBJECT=H_BUSY,nth=\u0661",
     "READ_OBJECT=H_BUSY ", "*=H_BUSY", "READ_OBJECT=H_LONG_BUSY_ORDER_1_MSEC"],
)  # fmt: skip
def test_what_is_no_fault_is_refused_with_a_rule(text: str) -> None:
    """R-75: a wrong text raises an OperatorError whose rule names the page with the right form."""
    with pytest.raises(OperatorError) as caught:
        parse_fault(text)
    assert caught.value.rule.page == "spec/faults.md#busy-answers"


def test_a_fault_lasts_so_often_or_so_long() -> None:
    """R-75: a fault has a count or a duration, but not both. A plan of 65 faults is refused."""
    for times, seconds in ((None, None), (1, 1.0)):
        with pytest.raises(OperatorError, match="both times and seconds, or neither"):
            BusyFault(Opcode.READ_OBJECT, Status.H_BUSY, 1, times, seconds)
    with pytest.raises(OperatorError, match="65 faults"):
        checked_plan([parse_fault("READ_OBJECT=H_BUSY")] * 65)
