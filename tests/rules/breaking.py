"""Common parts of the chapters of `tests/rules`: the form of a break, and how its rule is found.

A break is a function that does one wrong thing through a public surface and returns the rule in the refusal.
It gets an empty folder; most breaks do not need it.
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
    """Return the rule of an error; check that the error's class and the rule name the same side."""
    assert {FAULTS[kind] for kind in type(error).__mro__ if kind in FAULTS} <= {error.fault}
    return error.rule


def refused(function: Callable[..., object], *arguments: Any, **options: Any) -> Rule:
    """Return the rule that a call breaks."""
    with pytest.raises(SwpksError) as caught:
        function(*arguments, **options)
    return rule_of(caught.value)


def breaks(function: Callable[..., object], *arguments: Any, **options: Any) -> Break:
    """Return a break that needs no folder."""
    return lambda _: refused(function, *arguments, **options)


async def refused_late(made: Awaitable[object]) -> Rule:
    """Return the rule that an asynchronous call breaks."""
    with pytest.raises(SwpksError) as caught:
        await made
    return rule_of(caught.value)


def run(function: Callable[..., Awaitable[Rule]], *arguments: Any) -> Rule:
    """Run an asynchronous break in virtual time, without waiting."""
    return trio.run(function, *arguments, clock=trio.testing.MockClock(autojump_threshold=0))


@contextmanager
def logged(event: str) -> Iterator[list[dict[str, Any]]]:
    """The lines with this event that the block writes. The list is filled at its end."""
    stream, lines = io.StringIO(), list[dict[str, Any]]()
    logs.configure(level="debug", style="json", stream=stream)
    try:
        yield lines
    finally:
        logs.configure(level="warning")
        lines += [line for line in map(json.loads, stream.getvalue().splitlines()) if line["event"] == event]


def row_of(shown: dict[str, Any]) -> Rule:
    """Return the rule in a log line or a problem; check its sentence, page and fault."""
    rule = RULES[shown["rule_id"]]
    assert (shown["rule"], shown["section"]) == (rule.sentence, rule.page)
    assert shown.get("fault", rule.fault.value) == rule.fault.value
    return rule
