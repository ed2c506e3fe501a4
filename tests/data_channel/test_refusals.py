"""Log lines of refusals: every rule is told, and no guest can fill a disk with them."""

from typing import Any

from hcall_abi.calls import Opcode
from hcall_abi.statuses import Status
from hcall_server.data_channel.refusals import EACH, Refusals
from hcall_server.keystore.refusal import Refusal
from hcall_server.machine import logs


class Lines(logs.Log):
    """A log that keeps its lines."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[dict[str, Any]] = []

    def info(self, event: str, **fields: Any) -> None:
        self.lines.append({"event": event, **fields})


def refusal(rule: str, argument: str | None = None) -> Refusal:
    """A refusal by a rule."""
    section = "spec/hcalls/index.md#order-of-checks"
    return Refusal(Status.H_P2, "bad", rule=rule, section=section, argument=argument)


def test_repeats_are_told_ever_more_seldom() -> None:
    """R-76: the first ones each, then every doubling with the number so far."""
    log, refusals = Lines(), Refusals()
    for _ in range(100_000):
        refusals.tell(log, refusal("a label has 1 to 255 bytes"), Opcode.READ_OBJECT)
    repeated = [line.get("repeated") for line in log.lines]
    assert repeated[:EACH] == [None] * EACH
    assert repeated[EACH:] == [32 << n for n in range(12)]


def test_every_sort_is_told() -> None:
    """A new rule or another call is not hidden behind the ones that repeat."""
    log, refusals = Lines(), Refusals()
    for _ in range(1000):
        refusals.tell(log, refusal("one rule"), Opcode.READ_OBJECT)
    seen = len(log.lines)
    refusals.tell(log, refusal("another rule", "label"), Opcode.READ_OBJECT)
    refusals.tell(log, refusal("one rule"), Opcode.WRITE_OBJECT)
    assert [(line["hcall"], line["rule"]) for line in log.lines[seen:]] == [
        ("READ_OBJECT", "another rule"),
        ("WRITE_OBJECT", "one rule"),
    ]
    assert log.lines[seen]["argument"] == "label"
    assert "argument" not in log.lines[seen + 1]


def test_unknown_numbers_are_one_sort() -> None:
    """A guest that calls every number there is grows neither the log nor the table."""
    log, refusals = Lines(), Refusals()
    for number in range(100_000, 200_000):
        refusals.tell(log, refusal("no such h-call"), number)
    assert len(log.lines) < 2 * EACH
    assert log.lines[0]["hcall"] == "0x186A0"
