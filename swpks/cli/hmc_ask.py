"""The parts of a verb of `swpks hmc`: a request to the system, the text of its answer, a file to write."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from hcall_client.console import ConsoleRequest
from swpks.cli import hmc_output as output


class Saving(NamedTuple):
    """The file that a verb writes: its path, and the function that makes its bytes from an answer."""

    path: Path
    content: Callable[[Any], bytes]


class Ask(NamedTuple):
    """One request, the function that makes text of its answer, and the file to write, if any.

    `doubts` yields warnings about the answer; it may ask the same end further questions.
    """

    request: ConsoleRequest[Any]
    shown: Callable[[Any], str] = output.partition
    saving: Saving | None = None
    doubts: Callable[[Any, Any], Iterable[str]] = lambda *_: ()


class ConsoleVerb(NamedTuple):
    """One verb of the command: summary, operands for argparse, and the function that makes the request."""

    summary: str
    operands: dict[str, dict[str, Any]]
    ask: Callable[[argparse.Namespace], Ask]
