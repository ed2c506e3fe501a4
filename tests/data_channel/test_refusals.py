"""Log lines that peers can cause: each kind is logged, and no peer can fill a disk (spec/service.md#log)."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from hcall_abi.calls import Opcode
from hcall_abi.frames import Open
from hcall_abi.proof import NO_PROOF
from hcall_abi.rules import hcalls as rules
from hcall_abi.rules.rule import Rule
from hcall_abi.session import Role, Session
from hcall_abi.statuses import Status
from hcall_client.errors import HcallError
from hcall_client.guests.authvar import variable_label
from hcall_server.control_channel.metrics import exposition
from hcall_server.data_channel.conversation import ServerConversation
from hcall_server.data_channel.opening import ListenerFacts
from hcall_server.data_channel.refusals import log_refusal
from hcall_server.hcalls.refusals import Refusal
from hcall_server.keystore.signed import Doubt
from hcall_server.machine import logs
from hcall_server.machine.machine import Machine
from hcall_server.machine.noise import BURST, FIRST, Allowance, Noise, PeerLog
from hcall_server.machine.sessions import Link
from hcall_server.service.assembly import assemble
from hcall_server.service.settings import PartitionSettings, Settings
from swpks.testing.seams import simulated_seams
from tests.control_channel.rig import in_process
from tests.data_channel.support import Service, answers, make_machine, read
from tests.rules.breaking import logged

HOUR = 3600


class Time:
    """The clock of a machine that has no loop."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def time() -> Time:
    """The clock of the test."""
    return Time()


@pytest.fixture
def machine(time: Time) -> Machine:
    """A machine with two running partitions, without an event loop."""
    wishes = tuple(PartitionSettings.of(name, 8) for name in ("alpha", "beta"))
    made = assemble(simulated_seams(clock=time), Settings(partition=wishes))
    made.start()
    return made


def refusal(rule: Rule, argument: str | None = None) -> Refusal:
    """Return a refusal by a rule."""
    return Refusal(rule, "bad", status=Status.H_P2, argument=argument)


@contextmanager
def written() -> Iterator[list[dict[str, Any]]]:
    """Yield a list. At the end of the block it gets the log lines of the block, at level info or above."""
    stream, lines = io.StringIO(), list[dict[str, Any]]()
    logs.configure(level="info", style="json", stream=stream)
    try:
        yield lines
    finally:
        logs.configure(level="warning")
        lines += map(json.loads, stream.getvalue().splitlines())


def visit(machine: Machine, name: str | None = "alpha") -> None:
    """Break the protocol at a partition's listener, or send no proof at the listener of all (None)."""
    link = Link(0.0, lambda: None)
    machine.sessions.admit(link)
    facts = ListenerFacts(
        machine.system.find(name) if name else None, demand_proof=name is None, listener="[::]:7000"
    )
    server, client = ServerConversation(machine, link, facts, logs.Log()), Session(Role.CLIENT)
    client.receive_data(server.greet())
    list(client.events())
    client.receive_data(
        b"".join(answers(server, client.send(Open(1, int(name is None), 0, bytes(32), NO_PROOF, "guest"))))
    )
    list(client.events())
    if name is not None:
        list(answers(server, b"this is no frame"))
        assert server.farewell
        server.say(server.farewell)
    machine.sessions.remove(link)


def test_the_first_of_each_sort_are_told_whatever_else_happens(time: Time) -> None:
    """The first lines of each kind are logged, however many lines of other kinds precede them."""
    log = PeerLog(Allowance(time), logs.Log())
    with logged("hcall.refused") as lines:
        for _ in range(10_000):
            log_refusal(log, refusal(rules.LABEL_LENGTH), Opcode.READ_OBJECT)
        for _ in range(2 * FIRST):
            log_refusal(log, refusal(rules.OBJECT_EXISTS, "label"), Opcode.READ_OBJECT)
            log_refusal(log, refusal(rules.LABEL_LENGTH), Opcode.WRITE_OBJECT)
    assert len(lines) == 3 * FIRST + BURST
    assert [(line["hcall"], line["rule_id"]) for line in lines[-2:]] == [
        ("READ_OBJECT", "object.exists"),
        ("WRITE_OBJECT", "label.length"),
    ]
    assert lines[-2]["argument"] == "label"
    assert "argument" not in lines[-1]


def test_unknown_numbers_are_one_sort(time: Time) -> None:
    """A guest that uses every unknown number makes neither the log nor the table larger."""
    allowance = Allowance(time)
    with logged("hcall.refused") as lines:
        for number in range(100_000, 110_000):
            log_refusal(PeerLog(allowance, logs.Log()), refusal(rules.CALL_SERVED), number)
    assert len(lines) == FIRST + BURST
    assert lines[0]["hcall"] == "0x186A0"


def test_after_the_noise_a_line_says_what_is_missing(time: Time) -> None:
    """After a quiet time, lines of a source are logged again.

    The first of them has the number of lines that were left out.
    """
    log = PeerLog(Allowance(time), logs.Log())
    with logged("it.happened") as lines:
        for _ in range(FIRST + BURST + 5):
            log.info("it.happened")
        time.seconds += 100
        for _ in range(2):
            log.warning("it.happened", figure=1)
    assert len(lines) == FIRST + BURST + 2
    assert [line.get("left_out") for line in lines[-3:]] == [None, 5, None]
    assert lines[-1]["figure"] == 1


def test_a_hidden_level_costs_nothing(time: Time) -> None:
    """A line below the log level does not count against the bound of its source."""
    allowance = Allowance(time)
    with logged("shown.line") as lines:
        logs.configure(level="warning", style="json", stream=logs._Sink.stream)
        for _ in range(10_000):
            PeerLog(allowance, logs.Log()).debug("hidden.line")
            PeerLog(allowance, logs.Log()).info("hidden.line")
        PeerLog(allowance, logs.Log()).error("shown.line")
    assert allowance.left_out == {}
    assert len(lines) == 1


@pytest.mark.parametrize("name", ["alpha", None])
def test_a_peer_that_comes_again_and_again_is_bounded(machine: Machine, time: Time, name: str | None) -> None:
    """Sessions, broken rules and wrong proofs of repeating peers are bounded per partition and listener."""
    count = 1000
    with written() as lines:
        for _ in range(count):
            time.seconds += 0.001
            visit(machine, name)
    sorts = ["session.opened", "protocol.error", "session.ended"] if name else ["session.refused"]
    counts = Counter(line["event"] for line in lines)
    assert set(counts) == set(sorts)
    assert min(counts.values()) >= FIRST
    assert len(lines) <= len(sorts) * FIRST + BURST + 1
    left_out = {event: number for _, event, number in machine.noise.left_out()}
    assert {source for source, _, _ in machine.noise.left_out()} == {name or "[::]:7000"}
    assert Counter(counts) + Counter(left_out) == dict.fromkeys(sorts, count)


def test_the_noise_of_one_hides_no_line_of_another(machine: Machine) -> None:
    """R-01: Many lines of one partition hide no line of another partition or of the common listener."""
    with written() as lines:
        for name in ["alpha"] * 1000 + ["beta"] * FIRST + [None] * FIRST:
            visit(machine, name)
    assert [line["event"] for line in lines if line.get("partition") == "beta"] == [
        "session.opened", "protocol.error", "session.ended"
    ] * FIRST  # fmt: skip
    assert len([line for line in lines if line["event"] == "session.refused"]) == FIRST


def test_an_hour_of_noise(time: Time) -> None:
    """If one source causes lines for an hour, one line a second is written.

    So a day has 35 MB of log in place of 100 GB.
    """
    allowance, written_lines = Allowance(time), 0
    for _ in range(HOUR):
        written_lines += sum(allowance.take("session.opened") is not None for _ in range(5))
        time.seconds += 1
    assert HOUR <= written_lines <= FIRST + BURST + HOUR
    assert allowance.left_out["session.opened"] == 5 * HOUR - written_lines


def test_a_summary_comes_once_a_minute(time: Time) -> None:
    """Left-out lines are reported once a minute and at the end of the server, each of them once."""
    noise = Noise(time)
    allowance = noise.of("alpha")
    logs_left = FIRST + BURST
    with logged("log.shortened") as lines:
        noise.sum_up()
        for _ in range(logs_left + 7):
            allowance.take("session.opened")
        noise.sum_up()
        time.seconds += 60
        noise.sum_up()
        noise.sum_up()
        for _ in range(1000):
            allowance.take("session.ended", "idle")
        noise.sum_up()
        noise.sum_up(at_once=True)
        noise.sum_up(at_once=True)
    assert [(line["source"], line["left_out"]) for line in lines] == [
        ("alpha", {"session.opened": 7}),
        ("alpha", {"session.ended": 1000 - FIRST - 60}),
    ]


async def test_a_server_sums_up_while_it_runs_and_at_its_end(
    nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    """A running server reports left-out lines each minute and at its end. Its metrics have the totals."""
    with logged("log.shortened") as lines:
        async with trio.open_nursery() as running:
            service = await Service.start(running, make_machine("alpha"))
            peer = await service.session()
            for minute in (61, 61, 0):
                for _ in range(500):
                    with pytest.raises(HcallError):
                        await peer.call(read(b"absent"))
                mock_clock.jump(minute)
                await wait_all_tasks_blocked()
            figures = exposition(service.machine).decode()
            running.cancel_scope.cancel()
    counts = [line["left_out"]["hcall.refused"] for line in lines]
    assert counts == [500 - FIRST - BURST, 500 - 61, 500 - 61]
    assert {line["source"] for line in lines} == {"alpha"}
    assert f'swpks_log_left_out_total{{event="hcall.refused",source="alpha"}} {float(sum(counts))}' in figures


async def test_the_control_channel_is_a_source(machine: Machine) -> None:
    """Invalid requests to the control channel are bounded too, as a source of their own."""
    with logged("control.refused") as lines:
        async with in_process(machine) as client:
            for _ in range(FIRST + BURST + 50):
                assert (await client.get("/v1/partitions/none")).status_code == 404
            assert (await client.get("/nowhere")).status_code == 404
    assert len(lines) == FIRST + BURST + 1
    assert lines[-1]["rule_id"] == "request.path"
    assert list(machine.noise.left_out()) == [("control", "control.refused", 50)]


def test_updates_that_hardware_may_refuse_are_bounded(machine: Machine, time: Time) -> None:
    """R-70: Repeated warnings about one update are bounded, and hide no warning of another variable."""
    partition = machine.system.find("alpha")
    keystore = partition.keystore
    assert keystore is not None
    with written() as lines:
        for name in ["dbx"] * (FIRST + BURST + 5) + ["db", "moduledb\n", "\ud800"]:
            label = variable_label("dbx")[:16] + name.encode("utf-16-le", "surrogatepass")
            keystore.signed.doubts.append(Doubt(label, ("reason one", "reason two")))
            machine.after_calls(partition, logs.Log(partition="alpha"))
            assert keystore.signed.doubts == []
        machine.after_calls(partition, logs.Log())
    counts = Counter(line["variable"] for line in lines)
    assert counts == {"dbx": FIRST + BURST, "db": 1, "another name": 2}
    assert {line["event"] for line in lines} == {"signed_update.doubted"}
    assert lines[-1]["reasons"] == ["reason one", "reason two"]
