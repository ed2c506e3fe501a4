"""Log lines of refusals: every rule is told, and no guest can fill a disk with them."""

from typing import Any

from hcall_abi.calls import Opcode
from hcall_abi.rules import hcalls as rules
from hcall_abi.rules.rule import Rule
from hcall_abi.statuses import Status
from hcall_server.data_channel.refusals import EACH, RefusalLog
from hcall_server.hcalls.refusals import Refusal
from hcall_server.machine import logs


class Lines(logs.Log):
    """A log that keeps its lines."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[dict[str, Any]] = []

    def info(self, event: str, **fields: Any) -> None:
        self.lines.append({"event": event, **fields})


def refusal(rule: Rule, argument: str | None = None) -> Refusal:
    """A refusal by a rule."""
    return Refusal(rule, "bad", status=Status.H_P2, argument=argument)


def test_repeats_are_told_ever_more_seldom() -> None:
    """R-76: the first ones each, then every doubling with the number so far."""
    log, refusals = Lines(), RefusalLog()
    for _ in range(100_000):
        refusals.tell(log, refusal(rules.LABEL_LENGTH), Opcode.READ_OBJECT)
    repeated = [line.get("repeated") for line in log.lines]
    assert repeated[:EACH] == [None] * EACH
    assert repeated[EACH:] == [32 << n for n in range(12)]


def test_every_sort_is_told() -> None:
    """A new rule or another call is not hidden behind the ones that repeat."""
    log, refusals = Lines(), RefusalLog()
    for _ in range(1000):
        refusals.tell(log, refusal(rules.LABEL_LENGTH), Opcode.READ_OBJECT)
    seen = len(log.lines)
    refusals.tell(log, refusal(rules.OBJECT_EXISTS, "label"), Opcode.READ_OBJECT)
    refusals.tell(log, refusal(rules.LABEL_LENGTH), Opcode.WRITE_OBJECT)
    assert [(line["hcall"], line["rule_id"]) for line in log.lines[seen:]] == [
        ("READ_OBJECT", "object.exists"),
        ("WRITE_OBJECT", "label.length"),
    ]
    assert log.lines[seen]["argument"] == "label"
    assert "argument" not in log.lines[seen + 1]


def test_unknown_numbers_are_one_sort() -> None:
    """A guest that calls every number there is grows neither the log nor the table."""
    log, refusals = Lines(), RefusalLog()
    for number in range(100_000, 200_000):
        refusals.tell(log, refusal(rules.CALL_SERVED), number)
    assert len(log.lines) < 2 * EACH
    assert log.lines[0]["hcall"] == "0x186A0"
