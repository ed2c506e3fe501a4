"""The log of all h-calls (`swpks serve --log-calls`): one line per call, bounded, and off by default."""

import json

import pytest

from hcall_abi.faults import parse_fault
from hcall_abi.frames import HCall
from hcall_client.errors import HcallError
from hcall_server.hcalls.dispatch import HypervisorCalls
from hcall_server.machine.call_log import EVENT, PACE
from hcall_server.machine.machine import Machine
from hcall_server.machine.noise import FIRST
from hcall_server.platform.partition import Partition
from hcall_server.service.assembly import assemble
from hcall_server.service.settings import PartitionSettings, Settings
from swpks.testing.seams import simulated_seams
from tests.data_channel.support import Service, read, write
from tests.guest import Guest, make_partition
from tests.rules.breaking import logged

LINE = 1024


class Hours:
    """A clock that a test sets."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def started(*, log_calls: bool = True, clock: Hours | None = None) -> Machine:
    """A machine with one running partition."""
    wishes = (PartitionSettings.of("alpha", 64),)
    seams = simulated_seams(clock=clock or Hours())
    made = assemble(seams, Settings(partition=wishes, log_calls=log_calls))
    made.start()
    return made


class Logged(Guest):
    """A guest of a machine, with the calls of a session."""

    def __init__(self, machine: Machine) -> None:
        partition: Partition = machine.system.find("alpha")
        super().__init__(partition)
        self._calls = machine.calls_of(partition, lambda refusal, opcode: self.refusals.append(refusal))


def test_each_call_has_a_line() -> None:
    """The line of a call has partition, label, registers and status.

    A refusal also has its rule, and the line `hcall.refused` as without the option.
    """
    guest = Logged(started())
    with logged(EVENT) as lines:
        guest.write(3, b"disk-key", b"0123456789")
        guest.write(3, b"disk-key", b"0123456789")
        guest.send(HCall(1, 0x58, (0,) * 9, ()))
    assert [(line["hcall"], line["status"], line.get("rule_id")) for line in lines] == [
        ("WRITE_OBJECT", "H_SUCCESS", None),
        ("WRITE_OBJECT", "H_RESOURCE", "object.new"),
        ("0x58", "H_FUNCTION", "call.served"),
    ]
    assert lines[0]["partition"] == "alpha"
    assert lines[0]["label"] == "disk-key"
    assert lines[0]["arguments"]["data_length"] == 10
    assert [refusal.rule.id for refusal in guest.refusals] == ["object.new", "call.served"]


def test_a_confirmed_removal_is_no_refusal() -> None:
    """CONFIRM of a removal: H_NOT_FOUND with r4 = 1 is a success. The log blames no rule and no guest."""
    guest = Logged(started())
    guest.write(3, b"disk-key", b"0123456789")
    guest.remove(3, b"disk-key")
    guest.flush()
    with logged(EVENT) as lines:
        guest.confirm(3, b"disk-key")
    assert (lines[0]["status"], lines[0]["results"]) == ("H_NOT_FOUND", {"flushed": 1})
    assert "rule_id" not in lines[0]
    assert guest.refusals == []


def test_a_password_that_is_set_is_no_label() -> None:
    """The log hides a label that has bytes of a password that is set."""
    guest = Logged(started())
    secret = b"SUPERSECRETPASSWORD"
    guest.set_password(3, secret)
    with logged(EVENT) as lines:
        guest.read(3, secret)
        guest.write(3, b"x" + secret[:8], b"data", password=b"another one")
        guest.read(3, b"disk-key")
    assert [line["label"] for line in lines] == ["<19 bytes>", "<9 bytes>", "disk-key"]


@pytest.mark.parametrize("lane", [False, True])
async def test_calls_of_a_session_are_logged(nursery, lane: bool) -> None:
    """For calls in real frames, the log lines have status, results and the number of written bytes."""
    service = await Service.start(nursery, started(), lane=lane)
    channel = await service.session("alpha")
    with logged(EVENT) as lines:
        await channel.call(write(b"label", b"data"))
        await channel.call(read(b"label"))
        with pytest.raises(HcallError):
            await channel.call(read(b"other"))
    service.close()
    assert [line["status"] for line in lines] == ["H_SUCCESS", "H_SUCCESS", "H_NOT_FOUND"]
    assert lines[1]["results"] == {"size": 4, "policy": "0x0"}
    assert lines[1]["written"] == 4
    assert lines[2]["rule_id"] == "object.exists"


def test_busy_answers_of_a_plan_are_logged() -> None:
    """Busy answers of a fault plan are logged too."""
    machine = started()
    guest = Logged(machine)
    machine.set_faults("alpha", [parse_fault("READ_OBJECT=H_BUSY")])
    guest = Logged(machine)
    with logged(EVENT) as lines:
        guest.read(3, b"x")
        guest.read(3, b"x")
    assert [(line["status"], line["rule_id"]) for line in lines] == [
        ("H_BUSY", "call.busy"),
        ("H_NOT_FOUND", "object.exists"),
    ]


def test_the_log_is_bounded_and_says_what_is_missing() -> None:
    """The log takes 4,096 lines at once, then 64 a second, each below 1 KiB.

    The next line and `log.shortened` count the rest.
    """
    clock = Hours()
    machine = started(clock=clock)
    guest = Logged(machine)
    flood = FIRST + PACE.burst + 100
    with logged(EVENT) as lines:
        for _ in range(flood):
            guest.read(3, b"n" * 255)
    assert len(lines) == FIRST + PACE.burst
    assert max(len(json.dumps(line)) for line in lines) < LINE
    clock.seconds += 1
    with logged(EVENT) as lines:
        for _ in range(100):
            guest.read(3, b"x")
    assert len(lines) == PACE.per_second
    assert lines[0]["left_out"] == 100
    with logged("log.shortened") as shortened:
        machine.noise.sum_up(at_once=True)
    assert [(line["source"], line["left_out"]) for line in shortened] == [("h-calls of alpha", {EVENT: 136})]


def test_a_level_that_hides_the_lines_makes_none() -> None:
    """With `--log-level warning` no call line is made, and none counts as left out."""
    machine = started()
    Logged(machine).read(3, b"x")
    assert list(machine.noise.left_out()) == []


def test_without_the_option_a_call_passes_nothing() -> None:
    """Without the option, calls go directly to the dispatch."""
    machine = started(log_calls=False)
    partition = machine.system.find("alpha")
    assert type(machine.calls_of(partition, lambda *_: None)) is HypervisorCalls
    assert type(Guest(make_partition())._calls) is HypervisorCalls
