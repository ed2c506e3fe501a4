"""The verb `faults` of `swpks hmc`: it shows a fault plan, sets one, or ends it by the word none."""

# Why a warning
#
# The server accepts a fault for a call that the partition does not have: the plan may be set before the
# keystore is on.  Such a fault never answers (spec/faults.md#busy-answers), and a test with it would pass
# without a busy answer.  So the command warns of it.

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from hcall_abi.calls import Opcode
from hcall_abi.control_views import FaultView, PartitionView
from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.faults import BusyFault, parse_fault
from hcall_abi.levels import LEVELS
from hcall_abi.rules import console as rules
from hcall_client import console
from swpks.cli import hmc_output as output
from swpks.cli.hmc_ask import Ask
from swpks.cli.hmc_target import check_name_first, given_options

NONE = "none"
"""The word that ends the plan, as at `swpks hmc nvram`."""
_FIELDS = ("nth=", "times=", "seconds=")


def faults(args: argparse.Namespace) -> Ask:
    """Return the request of the verb: without a fault it only shows the plan."""
    check_name_first(args, args.faults)
    if not args.faults:
        return Ask(console.show_partition(args.name), plan, doubts=_doubts)
    if args.faults == [NONE]:
        return Ask(console.set_faults(args.name, ()), plan)
    found = [_fault(args, index) for index in range(len(args.faults))]
    return Ask(console.set_faults(args.name, found), doubts=_doubts)


def plan(answer: PartitionView) -> str:
    """Return the fault plan of a partition as text."""
    if not answer.faults:
        return f"{answer.name} has no fault plan"
    return "\n".join([f"{answer.name} has a fault plan", *map(output.fault, answer.faults)])


def _fault(args: argparse.Namespace, index: int) -> BusyFault:
    """Return the fault in a word of the command line; OperatorError with the right form for a wrong word."""
    text = args.faults[index]
    if text == NONE:
        message = f"{NONE} ends the plan and stands alone: {_command(args, NONE)}"
        raise OperatorError(rules.FAULT_FORM, message)
    if index and text.startswith(_FIELDS):
        joined = f"{args.faults[index - 1]},{text}"
        message = f"{text!r} is a part of the fault before it: {_command(args, joined)}"
        raise OperatorError(rules.FAULT_FORM, message)
    try:
        return parse_fault(text)
    except OperatorError as error:
        if error.rule is not rules.FAULT_FORM or "=" in text:
            raise
        message = f"{error.message}; {_command(args, NONE)} ends the plan"
        raise OperatorError(error.rule, message) from None


def _command(args: argparse.Namespace, words: str) -> str:
    parts = ("swpks hmc", given_options(args), "faults", shlex.quote(args.name), shlex.quote(words))
    return f"`{' '.join(filter(None, parts))}`"


def _doubts(answer: PartitionView, end: Any) -> Iterator[str]:
    """Yield a warning for faults that never answer, because the partition does not have their call."""
    if not answer.faults:
        return
    if not answer.keystore_kbytes:
        yield f"the keystore of {answer.name} is off, so each h-call is H_FUNCTION, and no fault answers"
        return
    with suppress(SwpksError):  # the plan is set; a question that fails must not report it as refused
        yield from _of_level(answer.faults, end.call(console.show_system()).firmware_level)


def _of_level(planned: list[FaultView], level: str) -> Iterator[str]:
    known = LEVELS.get(level)  # None for a level of a newer server
    for name in dict.fromkeys(each.hcall for each in planned):
        call = Opcode.__members__.get(name)
        if known and call and call not in known.calls:
            later = next(first for first, row in LEVELS.items() if call in row.calls)
            yield (
                f"the firmware level {level} lacks {name}: it is H_FUNCTION, and no fault answers it; "
                f"`swpks serve --firmware {later}` has it"
            )
