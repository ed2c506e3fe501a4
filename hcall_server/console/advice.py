"""Advice for operators about a system that is not connected, or a recovery that lacks copies.

The commands in backquotes can be typed as printed.  The operator only has to replace the words in capitals.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hcall_abi.errors import SwpksError
from hcall_abi.remedies import REMEDIES
from hcall_abi.rules import console as rules

if TYPE_CHECKING:
    from hcall_server.console.systems import KnownSystem

_SOCKET = "/run/control.sock"
"""The control socket, below the state folder of a system."""
_OWN_COMMAND = re.compile("(?<=`)swpks hmc (?![^`]*--(?:store|state|socket))(?=[^-])")
"""A command in backquotes that is about this console, and names neither its store nor a system."""

TO_NAME = "name the control socket of a system: `swpks hmc add-system DIR/run/control.sock`"
"""The remedy for a place that is no control socket, without one near it."""
_COMMAND = re.compile("`[^`]+`")
_NAMING = {
    "copy.idle": (re.compile("partition ([^ ,]+) runs"),),
    "trusted-key.idle": (re.compile("running, with a keystore: ([^;]+);"),),
    "hmc.profile-idle": (re.compile("running: ([^;]+);"),),
    "size.running": (re.compile("([^ ,]+) is running"),),
    "attribute.running": (re.compile("([^ ,]+) is running"),),
    "partition.off": (re.compile("([^ ,]+) is running"),),
}
"""The forms of refusals that name partitions, by the id of the rule."""


def to_connect(error: SwpksError, where: str, name: str) -> str:
    """Return the advice for an operator whose system could not be connected because of `error`.

    `where` is the address of the system.  `name` is its name, "" if it is unknown.
    """
    # The remedy in the catalogue only has the word DIR.  The path of a socket contains the real folder, so
    # the command can name that folder.
    if error.rule.id == rules.CONSOLE_SERVED.id:
        return ("" if "://" in where else _to_right_place(where)) or to_start(where)
    remedy = REMEDIES.get(error.rule.id, "see the log of the console")
    return remedy.replace("SYSTEM", shlex.quote(name)) if name else remedy


def _to_right_place(where: str) -> str:
    """Return how to correct the place of a system; "" if it may be right."""
    place = Path(where)
    near = (place / "run" / "control.sock", place / "control.sock", place.with_name("control.sock"))
    for each in near:
        if each != place and each.is_socket():
            return f"correct the place: `swpks hmc add-system {shlex.quote(str(each))}`"
    if (place / "service-processor").exists():
        right = str(near[0])
        return f"{to_start(right)}, then add it: `swpks hmc add-system {shlex.quote(right)}`"
    return TO_NAME if place.is_dir() or place.is_file() else ""


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


def names_in(error: SwpksError) -> list[str]:
    """Return the partitions that a refusal names in its text, [] if it names none.

    The command has named a file or a system.  Only the refusal knows the partitions.
    """
    found = (form.match(error.message) for form in _NAMING.get(error.rule.id, ()))
    return next((each[1].split(", ") for each in found if each), [])


def put_words(text: str, words: Mapping[str, str | None], names: Sequence[str] = ()) -> str:
    """Replace words in capitals, such as SYSTEM, in the commands of a text; return the new text.

    `words` has the value of each word.  A word whose value is empty or None stays as it is.  With `names`,
    a command with the word NAME is repeated for each of them.
    """
    put = {capitals: shlex.quote(word) for capitals, word in words.items() if word}

    def put_in(command: str, name: str) -> str:
        own = {**put, "NAME": shlex.quote(name)} if name else put
        return re.sub(r"\b[A-Z]+\b", lambda found: own.get(found[0], found[0]), command)

    def filled(command: re.Match[str]) -> str:
        several = names if "NAME" in command[0] else ()
        return ", ".join(put_in(command[0], name) for name in several or [""])

    return _COMMAND.sub(filled, text)
