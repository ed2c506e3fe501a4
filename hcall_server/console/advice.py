"""Advice for operators about a system that is not connected, or a recovery that lacks copies.

The commands in backquotes can be typed as printed.  The operator only has to replace the words in capitals.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING

from hcall_abi.errors import SwpksError
from hcall_abi.remedies import REMEDIES
from hcall_abi.rules import console as rules

if TYPE_CHECKING:
    from hcall_server.console.systems import KnownSystem

_SOCKET = "/run/control.sock"
"""The control socket, below the state folder of a system."""
_OWN_COMMAND = re.compile("(?<=`)swpks hmc (?![^`]*--store)(?=[^-])")
"""A command in backquotes that is about this console, and does not name its store."""

_COMMAND = re.compile("`[^`]+`")


def to_connect(error: SwpksError, where: str, name: str) -> str:
    """Return the advice for an operator whose system could not be connected because of `error`.

    `where` is the address of the system.  `name` is its name, "" if it is unknown.
    """
    # The remedy in the catalogue only has the word DIR.  The path of a socket contains the real folder, so
    # the command can name that folder.
    if error.rule.id == rules.CONSOLE_SERVED.id:
        return to_start(where)
    remedy = REMEDIES.get(error.rule.id, "see the log of the console")
    return remedy.replace("SYSTEM", shlex.quote(name)) if name else remedy


def to_start(where: str) -> str:
    """Return how to start the system at an address.

    For an address on TCP, the advice also says how to correct the address.
    """
    if where.endswith(_SOCKET):
        return f"start it: `swpks serve --state {shlex.quote(where.removesuffix(_SOCKET))}`"
    return REMEDIES[rules.CONSOLE_SERVED.id]


def to_accept_loss(system: KnownSystem, folder: str) -> str:
    """Return the command that ends the recovery of a system whose stores have no copy."""
    return at_store(f"accept that by: `swpks hmc recover -m {shlex.quote(system.name)} --give-up`", folder)


def at_store(text: str, folder: str) -> str:
    """Put the option --store into the commands of a text, so that they reach this console.

    The text is unchanged if this console has its store in memory.
    """
    if not folder:
        return text
    # `swpks hmc` without --store takes SWPKS_HMC, which may name another console.
    return _OWN_COMMAND.sub(lambda found: f"{found[0]}--store {shlex.quote(folder)} ", text)


def put_words(text: str, words: Mapping[str, str | None]) -> str:
    """Replace words in capitals, such as SYSTEM, in the commands of a text; return the new text.

    `words` has the value of each word.  A word whose value is empty or None stays as it is.
    """
    put = {capitals: shlex.quote(word) for capitals, word in words.items() if word}

    def filled(command: re.Match[str]) -> str:
        return re.sub(r"\b[A-Z]+\b", lambda found: put.get(found[0], found[0]), command[0])

    return _COMMAND.sub(filled, text)
