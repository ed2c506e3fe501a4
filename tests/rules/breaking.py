"""Common parts of the modules in `tests/rules`: what a break is, and how the broken rule is found.

A break is a function that does one wrong thing through a public interface, and returns the rule in the
refusal. It gets an empty folder; most breaks do not need it.
"""

from __future__ import annotations

import io
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from hcall_abi.errors import OperatorError, PeerError, StorageError, SwpksError
from hcall_abi.rules.catalogue import RULES
from hcall_abi.rules.rule import Fault, Rule
from hcall_server.machine import logs

Break = Callable[[Path], Rule]
Breaks = dict[str, Break]
"""Breaks by the id of the rule that each must break."""
FAULTS: dict[type, Fault] = {
    PeerError: Fault.PEER,
    OperatorError: Fault.OPERATOR,
    StorageError: Fault.STORAGE,
}


def rule_of(error: SwpksError) -> Rule:
    """Return the rule of an error. The class of the error must fit the fault of the rule."""
    assert {FAULTS[kind] for kind in type(error).__mro__ if kind in FAULTS} <= {error.fault}
    return error.rule


def refused(function: Callable[..., object], *arguments: Any, **options: Any) -> Rule:
    """Return the rule in the error that this call must raise."""
    with pytest.raises(SwpksError) as caught:
        function(*arguments, **options)
    return rule_of(caught.value)


def breaks(function: Callable[..., object], *arguments: Any, **options: Any) -> Break:
    """Return a function that makes this call, which must break a rule.

    The function needs no folder.
    """
    return lambda _: refused(function, *arguments, **options)


async def refused_late(made: Awaitable[object]) -> Rule:
    """Return the rule in the error that this asynchronous call must raise."""
    with pytest.raises(SwpksError) as caught:
        await made
    return rule_of(caught.value)


def run(function: Callable[..., Awaitable[Rule]], *arguments: Any) -> Rule:
    """Run an asynchronous break on a virtual clock; return its rule."""
    return trio.run(function, *arguments, clock=trio.testing.MockClock(autojump_threshold=0))


@contextmanager
def logged(event: str) -> Iterator[list[dict[str, Any]]]:
    """Yield a list; when the block ends, it gets the log lines with this event."""
    stream, lines = io.StringIO(), list[dict[str, Any]]()
    logs.configure(level="debug", style="json", stream=stream)
    try:
        yield lines
    finally:
        logs.configure(level="warning")
        lines += [line for line in map(json.loads, stream.getvalue().splitlines()) if line["event"] == event]


def row_of(shown: dict[str, Any]) -> Rule:
    """Return the rule that a log line or a problem names; check its sentence, page and fault."""
    rule = RULES[shown["rule_id"]]
    assert (shown["rule"], shown["section"]) == (rule.sentence, rule.page)
    assert shown.get("fault", rule.fault.value) == rule.fault.value
    return rule
