"""The shape of all errors of commands: a line of text, or with --json a line of JSON.

    swpks lpar lpar1 read: H_PKS_READ_OBJECT was refused with H_AUTHORITY [guest fault; rule authority: ...]

The contract is spec/service.md#commands.
"""

# Why one shape
#
# A script has to distinguish errors without a search in English text. So each error is a line with the
# command, the message, the fault and the rule. This is also true of errors of argparse and of the server.
# With --json the same fields are a line of JSON. Scripts compare the id of the rule, not the message.

from __future__ import annotations

import json
import re

from hcall_abi.errors import SwpksError
from swpks.cli import streams

_LINE = re.compile(r"swpks[^:]*: (?P<message>.*) \[[a-z]+ fault; rule (?P<id>[^:]+): .*; see [^ ]+\]")


def refuse(words: str, error: SwpksError, *, as_json: bool = False) -> None:
    """Print the error of a command; `words` are the command with its verb, such as "hmc power"."""
    streams.complain(json.dumps(fields(error)) if as_json else f"{command(words)}: {error}")


def read(line: str) -> SwpksError | None:
    """Return the error that `refuse` has printed as this line of text; None for another line.

    A command that runs another one passes its error on with the same rule, so that one error stays one line.
    """
    from hcall_abi.rules.catalogue import RULES  # loads all rules, and few commands run another one

    found = _LINE.fullmatch(line)
    rule = RULES.get(found["id"]) if found else None
    if not found or not rule:
        return None
    return SwpksError(rule, found["message"].removeprefix(f"{rule.code}: "))


def command(words: str) -> str:
    """Return the name of a command in its error messages."""
    return f"swpks {words}".rstrip()


def fields(error: SwpksError) -> dict[str, object]:
    """Return the fields of an error for JSON: the fields of a problem, and the facts of this error."""
    rule = error.rule
    problem = {
        "detail": error.message,
        "fault": rule.fault.value,
        "rule_id": rule.id,
        "rule": rule.sentence,
        "section": rule.page,
    }
    return {**problem, **({"code": rule.code} if rule.code else {}), **error.facts}


def reason_of(error: OSError) -> str:
    """Return the reason of an error in words; errors of Python's own have no `strerror`."""
    return error.strerror or str(error) or type(error).__name__
