"""The remedy behind an error of `swpks hmc VERB`: that of the rule, with the words of the command's end.

    error = with_remedy_for(error, Asked("/lab/hmc", "sys1", "lpar1"))

An error whose text has a remedy (`advised`) stays as it is.  A remedy is for a console
(`hcall_abi.remedies`).  A system whose control channel was asked itself has other commands: no lines, no -m.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from hcall_abi.errors import SwpksError
from hcall_abi.remedies import OF_ONE_SYSTEM, REMEDIES
from hcall_client.errors import with_message
from hcall_server.console.advice import at_store, put_words
from swpks.hmc.names import ALSO_VERBS, LINES

_AT_SYSTEM = {
    "`chsysstate -r lpar -m SYSTEM -n NAME -o shutdown --immed`": "`swpks hmc power NAME off`",
    "`lssyscfg -r lpar -m SYSTEM -F name,lpar_id,state`": "`swpks hmc status`",
    "`rmsyscfg -r lpar -m SYSTEM -n OTHER`": "`swpks hmc delete OTHER`",
    ": `swpks hmc copies -m SYSTEM` lists those of the console": "",
    " -m SYSTEM": "",
}
"""Words of remedies for a console, and the words for a system."""
_OTHER_RULES = {
    "console.served": "see that its server runs (`swpks serve --state DIR`), and that you may use its socket"
}
"""Remedies for a system by the id of the rule, where that for a console does not help there."""
_LINE = re.compile(f"(?<=`)(?=(?:{'|'.join(LINES)})[ `])")
_ONLY_CONSOLE = re.compile(
    rf"`(?:swpks\shmc\s(?:systems|add-system|remove-system|jobs|copies|links)|(?!{'|'.join(ALSO_VERBS)})"
    rf"(?:{'|'.join(LINES)}))\b"
)
"""The begin of a command that only a console carries out."""
_VERB = re.compile(r"(?<=`swpks\shmc\s)(?![^`]*--st)(?=[^-])")
"""A place behind `swpks hmc` of a command that names no end."""


class Asked(NamedTuple):
    """The end of a command: the store of a console, or else `end`, the option that names a system.

    `system` is the word behind -m, and `partition` the partition of the command; both may be "".
    """

    store: str = ""
    system: str = ""
    partition: str = ""
    end: str = ""


def with_remedy_for(error: SwpksError, asked: Asked) -> SwpksError:
    """Return an error with the remedy of its rule; the same error if it has one, or if there is none."""
    if error.advised or error.rule.id not in REMEDIES:
        return error
    # A system that was asked itself is the one of the remedy, but for a remedy that sends to the console.
    at_console = bool(asked.store) or not (remedy := _at_system(error.rule.id))
    if at_console:
        remedy = REMEDIES[error.rule.id]
    if error.rule.id in OF_ONE_SYSTEM:
        # Without -m the console has one system, and the next command needs none either.
        remedy = remedy if asked.system or not asked.store else remedy.replace(" -m SYSTEM", "")
        remedy = put_words(remedy, {"SYSTEM": asked.system, "NAME": asked.partition})
    remedy = at_store(_LINE.sub("swpks hmc ", remedy), asked.store)
    if at_console:
        remedy = remedy if asked.store else f"at its console: {remedy}"
    elif asked.end:
        remedy = _VERB.sub(f"{asked.end} ", remedy)
    advised = with_message(error, f"{error.message}; {remedy}")
    advised.advised = True
    return advised


def _at_system(rule_id: str) -> str:
    """Return the remedy of a rule at a system itself; "" if its commands are those of a console."""
    remedy = _OTHER_RULES.get(rule_id) or REMEDIES[rule_id]
    for words, own in _AT_SYSTEM.items():
        remedy = remedy.replace(words, own)
    return "" if _ONLY_CONSOLE.search(remedy) else remedy
