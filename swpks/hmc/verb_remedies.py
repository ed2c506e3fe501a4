"""Adds the remedy to an error of `swpks hmc VERB`: that of its rule, in the words of the command.

    error = with_remedy_for(error, Asked("/lab/hmc", "sys1", "lpar1"))

An error whose text has a remedy (`advised`) stays as it is.  The remedies of `hcall_abi.remedies` are for a
console.  If the command asked a system directly, other commands are right: no lines, no -m.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from hcall_abi.errors import SwpksError
from hcall_abi.remedies import OF_ONE_SYSTEM, REMEDIES
from hcall_client.errors import with_message
from hcall_server.console.advice import at_store, names_in, put_words
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
_OF_REAL_NUMBERS = {
    "power.running": "`swpks hmc power NAME on -m SYSTEM` starts it",
    "power.stopped": (
        "`swpks hmc ipl NAME -m SYSTEM` restarts it, `swpks hmc power NAME off -m SYSTEM` stops it"
    ),
}
"""Remedies for verbs, of rules with a number of the real console: its lines print that number alone."""
_OF_ONE = OF_ONE_SYSTEM | {*_OF_REAL_NUMBERS}
"""Rules whose remedy is about the system of the command."""
_STATE = re.compile(r"cannot reach the server at (/.+)/run/control\.sock: ")
"""The state folder in an error of a system that is away."""
_LINE = re.compile(f"(?<=`)(?=(?:{'|'.join(LINES)})[ `])")
_ONLY_CONSOLE = re.compile(
    rf"`(?:swpks\shmc\s(?:systems|add-system|remove-system|jobs|copies|links)|(?!{'|'.join(ALSO_VERBS)})"
    rf"(?:{'|'.join(LINES)}))\b"
)
"""The begin of a command that only a console carries out."""
_VERB = re.compile(r"(?<=`swpks\shmc\s)(?![^`]*--st)(?=[^-])")
"""A place behind `swpks hmc` of a command that names no end."""


class Asked(NamedTuple):
    """The server that a command has asked: a console, or a system.

    For a console, `store` is its folder.  For a system, `store` is "", and `end` is the option of the
    command that names the system.  `system` is the word after -m, and `partition` the partition of the
    command; both may be "".
    """

    store: str = ""
    system: str = ""
    partition: str = ""
    end: str = ""


def with_remedy_for(error: SwpksError, asked: Asked) -> SwpksError:
    """Return an error with the remedy of its rule added.

    An error that has a remedy, or whose rule has none, is returned unchanged.
    """
    # The way out of Reset pending is a command on the folder, whose path the server does not send.
    if error.message.endswith("reset-settings --state DIR") and asked.end.startswith("--state "):
        error = with_message(error, f"{error.message.removesuffix('--state DIR')}{asked.end}")
    if error.advised or not _remedy_of(error.rule.id):
        return error
    # If a system was asked, the remedy is for that system, unless only a console can carry it out.
    at_console = bool(asked.store) or not (remedy := _at_system(error.rule.id))
    if at_console:
        remedy = _remedy_of(error.rule.id)
    if error.rule.id in _OF_ONE:
        # Without -m the console has only one system, so the next command needs no -m either.
        remedy = remedy if asked.system or not asked.store else remedy.replace(" -m SYSTEM", "")
        names = () if asked.partition else names_in(error)
        remedy = put_words(remedy, {"SYSTEM": asked.system, "NAME": asked.partition}, names)
    if place := _STATE.search(error.message):
        remedy = put_words(remedy, {"DIR": place[1]})
    remedy = at_store(_LINE.sub("swpks hmc ", remedy), asked.store)
    if at_console:
        remedy = remedy if asked.store else f"at its console: {remedy}"
    else:
        remedy = at_end(remedy, asked.end)
    advised = with_message(error, f"{error.message}; {remedy}")
    advised.advised = True
    return advised


def at_end(text: str, end: str) -> str:
    """Add the option `end` to each command of `swpks hmc` in a text; return the new text.

    A command that names its console or system already stays as it is.  If `end` is "", nothing is added.
    """
    return _VERB.sub(lambda _: f"{end} ", text) if end else text


def completed(text: str, end: str, partition: str) -> str:
    """Complete the commands in a text: replace NAME by the partition, and add the option `end`."""
    # NAME is replaced before the option is added, because a path in the option may have the word NAME in it.
    return at_end(put_words(text, {"NAME": partition}), end)


def _remedy_of(rule_id: str) -> str:
    """Return the remedy of a rule at a console, "" if it has none."""
    return REMEDIES.get(rule_id) or _OF_REAL_NUMBERS.get(rule_id, "")


def _at_system(rule_id: str) -> str:
    """Return the remedy of a rule, with commands for a system; "" if only a console has these commands."""
    remedy = _OTHER_RULES.get(rule_id) or _remedy_of(rule_id)
    for words, own in _AT_SYSTEM.items():
        remedy = remedy.replace(words, own)
    return "" if _ONLY_CONSOLE.search(remedy) else remedy
