"""`swpks asmi`: secure erase of a managed system that is powered off.

    swpks asmi --state DIR clear-all          # prints the data that will be lost, and a word
    ... write the word to DIR/presence, within ten minutes
    swpks asmi --state DIR clear-all          # erases

A system with its NVRAM on etcd needs --nvram and the options of its `swpks serve`.

Exit status: 0 erased; 1 refused by a rule, such as a running system or a wrong word; 2 a usage error; 3 the
storage fails; 4 a word was printed: write it to DIR/presence.  The contract: spec/erase.md.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from hcall_abi.errors import SwpksError
from hcall_abi.rules.rule import Fault
from hcall_abi.scarcity import scarcity_of
from hcall_server.service.locked import LockedState
from hcall_server.service.presence import LIFETIME, TRIES, Presence
from swpks.cli import streams
from swpks.cli.nvram_options import add_nvram_options, nvram_place
from swpks.cli.refusals import refuse
from swpks.cli.where import state_path

REFUSED = 1
STORAGE = 3
PRESENCE_NEEDED = 4

ACTIONS = {
    "clear-all": 'ASMI "Clear All": destroy the root key and make a new one; reset-settings must follow',
    "reset-settings": 'ASMI "Reset server firmware settings": wipe all encrypted PKS data',
}

_Random = Callable[[int], bytes]


class Eraser(NamedTuple):
    """The functions that the command calls.

    `opened` returns a block with the system of a locked folder, for the other functions.  `losses` returns
    sentences about the data that an erase will lose.  `erase` has a function for each action, which carries
    the action out and returns the text for the operator.
    """

    losses: Callable[[Any, str], list[str]]
    erase: Mapping[str, Callable[[Any, _Random], str]]
    opened: Callable[[Path], AbstractContextManager[Any]] = nullcontext


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add `asmi` to the command's subparsers; `run` of this module carries it out."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "asmi",
        help="erase the secrets of a powered-off system",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    add = parser.add_argument
    # SWPKS_STATE does not count here: an erase cannot be undone, so the operator has to name the system.
    add("--state", type=state_path, required=True, metavar="DIR", help="the state folder of the system")
    add("--json", action="store_true", help="print JSON")
    add_nvram_options(add)
    add("action", choices=ACTIONS, help="; ".join(f"{name} is {what}" for name, what in ACTIONS.items()))
    return parser


def run(args: argparse.Namespace) -> int:
    """Carry out a parsed command line and return the exit status; errors go to standard error."""
    return carry_out(args, _eraser(args), time.time, os.urandom)


def carry_out(args: argparse.Namespace, eraser: Eraser, now: Callable[[], float], entropy: _Random) -> int:
    """Carry out the command with this eraser, clock and source of random bytes; return the exit status."""
    try:
        # A server takes the same lock. So the erase of a running system is refused, and no server can start
        # during an erase.
        # A server on another host does not take this lock.  So `opened` becomes the owner of NVRAM on etcd.
        with LockedState(args.state) as locked, eraser.opened(locked.folder) as system:
            # Clock and random bytes are arguments, so a test can let a word expire.
            presence = Presence(locked.folder, now, entropy)
            if presence.proven(args.action):
                status, text = 0, _erased(args, system, eraser, entropy)
            else:
                status, text = PRESENCE_NEEDED, _asked(args, system, eraser, presence)
    except (SwpksError, OSError, MemoryError) as error:
        refusal = error if isinstance(error, SwpksError) else scarcity_of(error)
        if refusal is None:
            raise
        return _refused(args, refusal)
    streams.say(text)
    return status


def _eraser(args: argparse.Namespace) -> Eraser:
    place = nvram_place(args)
    from hcall_server.service import erase
    from hcall_server.service.erase_nvram import ErasedNvram, erased_nvram

    def losses(nvram: ErasedNvram, action: str) -> list[str]:
        return erase.losses(nvram.folder, action, nvram)

    def clear_all(nvram: ErasedNvram, entropy: _Random) -> str:
        return erase.clear_all(nvram.folder, entropy, nvram)

    def reset_settings(nvram: ErasedNvram, entropy: _Random) -> str:
        return erase.reset_settings(nvram.folder, entropy, nvram)

    actions = {"clear-all": clear_all, "reset-settings": reset_settings}
    return Eraser(losses, actions, lambda folder: erased_nvram(folder, place))


def _erased(args: argparse.Namespace, system: Any, eraser: Eraser, entropy: _Random) -> str:
    """Erase, and return the text for the operator."""
    done = eraser.erase[args.action](system, entropy)
    return json.dumps({"action": args.action, "erased": True, "text": done}) if args.json else done


def _asked(args: argparse.Namespace, system: Any, eraser: Eraser, presence: Presence) -> str:
    """Make a new word, and return the text that shows it with the losses.

    The caller must print this text on standard output only.
    """
    losses = eraser.losses(system, args.action)
    asked = {
        "action": args.action,
        "erased": False,
        "losses": losses,
        "word": presence.ask(args.action),
        "presence": str(presence.path),
        "seconds": LIFETIME,
        "tries": TRIES,
        "older_removed": presence.older_removed,
    }
    return json.dumps(asked, indent=2) if args.json else _request(asked)


def _request(asked: dict[str, Any]) -> str:
    """Return the request as text: the losses, the word, and the next step."""
    place = asked["presence"]
    older = [f"{place} was removed: it was there before this word was asked for."]
    return "\n".join(
        [
            f"{asked['action']} cannot be undone. It destroys:",
            *(f"  - {loss}" for loss in asked["losses"]),
            *(older if asked["older_removed"] else []),
            f"The word is {asked['word']}",
            f"To go on, write this word to {place}",
            f"within {asked['seconds'] / 60:.0f} minutes, and repeat the command.",
        ]
    )


def _refused(args: argparse.Namespace, error: SwpksError) -> int:
    refuse(f"asmi {args.action}", error, as_json=args.json)
    return STORAGE if error.fault is Fault.STORAGE else REFUSED
