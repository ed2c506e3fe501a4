"""Verbs of `swpks hmc` about a system as a whole: parts, keys, copies, recovery."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from hcall_abi.bounds import TRUSTED_KEY_SIZE
from hcall_abi.control_views import CopyView, TrustedKeyView
from hcall_abi.errors import OperatorError
from hcall_abi.rules import backup as rules
from hcall_abi.rules import console as console_rules
from hcall_client import console
from swpks.cli import hmc_output as output
from swpks.cli.files import read_input
from swpks.cli.hmc_ask import Ask, ConsoleVerb, Saving
from swpks.cli.inputs import EmptyInput
from swpks.cli.refusals import reason_of


def _content(path: Path) -> bytes:
    """Return the bytes of a file; OperatorError if it can't be read."""
    try:
        return read_input(path)
    except OSError as error:
        raise OperatorError(rules.BACKUP_FILE, f"{path}: {reason_of(error)}") from None


def _saved(path: Path, verb: str) -> bytes:
    """Return the bytes of a file that a verb has saved; OperatorError if it can't be read, or is empty."""
    if content := _content(path):
        return content
    raise EmptyInput(path, f"name a file that {verb} has saved")


def _key(path: Path | None) -> bytes | None:
    """Return the trusted system key that a file contains, None if the command names no file."""
    if path is None:
        return None
    content = _content(path)
    # The length is checked here, because the message can name the file. The server never sees its name.
    if len(content) != TRUSTED_KEY_SIZE:
        raise OperatorError(
            rules.TRUSTED_KEY_FILE, f"{path} has {len(content)} bytes, not {TRUSTED_KEY_SIZE}"
        )
    return content


def _list_key(args: argparse.Namespace) -> Ask:
    saving = Saving(args.sealed, _sealed) if args.sealed else None
    return Ask(console.show_trusted_key(), output.trusted_key, saving)


def _sealed(answer: TrustedKeyView) -> bytes:
    if answer.sealed is None:
        raise OperatorError(rules.TRUSTED_KEY_SET, "this system has no trusted system key yet")
    return answer.sealed


def _change_key(args: argparse.Namespace) -> Ask:
    sealed = _saved(args.sealed, "lstskey --sealed") if args.sealed else None
    new, old = _key(args.newkey), _key(args.oldkey)
    return Ask(console.set_trusted_key(args.operation, new, old, sealed), output.trusted_key)


def _copy(args: argparse.Namespace) -> Ask:
    return Ask(console.show_copy(args.name), partial(output.copy, args.name), Saving(args.file, _blob))


def _blob(answer: CopyView) -> bytes:
    return answer.copy


def _restore(args: argparse.Namespace) -> Ask:
    return Ask(console.restore_copy(_saved(args.file, "copy"), older=not args.not_older))


def _recover(args: argparse.Namespace) -> Ask:
    if args.begin and args.give_up:
        message = "--begin and --give-up exclude each other: name one"
        raise OperatorError(console_rules.RECOVERY_STATE, message, advised=True)
    if args.begin:
        return Ask(console.begin_recovery(), output.system)
    return Ask(console.end_recovery(give_up=args.give_up), output.recovered)


def _file_path(text: str) -> Path:
    """Return the path of a named file; OperatorError for an empty path."""
    if not text:
        raise OperatorError(rules.BACKUP_FILE, "the path of the file is empty")
    return Path(text)


_FILE: dict[str, Any] = {"type": _file_path, "metavar": "FILE"}
_RECOVER: dict[str, dict[str, Any]] = {
    "--give-up": {"action": "store_true", "help": "accept the loss of each store that was not restored"},
    "--begin": {"action": "store_true", "help": "begin instead: put an empty system into the state Recovery"},
}
_CHANGE_KEY: dict[str, dict[str, Any]] = {
    "-o": {
        "dest": "operation",
        "choices": ("change", "restore", "return"),
        "required": True,
        "help": "change: set another key; restore: set an earlier key, while no partition with a keystore "
        "runs; return: set the sealed key that lstskey --sealed has saved",
    },
    "--newkey": {**_FILE, "help": "with change and restore: a file of exactly 32 bytes"},
    "--oldkey": {**_FILE, "help": "a file with the present key, which is checked"},
    "--sealed": {**_FILE, "help": "with return: a file that lstskey --sealed has saved"},
}

SYSTEM_VERBS = {
    "components": ConsoleVerb(
        "show the replaceable parts, and how the last start got access to the keystores",
        {},
        lambda _: Ask(console.show_components(), output.components),
    ),
    "lstskey": ConsoleVerb(
        "show the id of the trusted system key",
        {"--sealed": {**_FILE, "help": "save the sealed key; only this system can open it"}},
        _list_key,
    ),
    "chtskey": ConsoleVerb("change or restore the trusted system key", _CHANGE_KEY, _change_key),
    "copy": ConsoleVerb(
        "save a copy of a partition's store, sealed under the trusted system key",
        {
            "name": {"metavar": "NAME", "help": "the partition's name"},
            "file": {**_FILE, "help": "file for the copy; - is standard output"},
        },
        _copy,
    ),
    "restore": ConsoleVerb(
        "replace a store by a copy; later updates are lost",
        {
            "file": {**_FILE, "help": "a file that copy has saved"},
            "--not-older": {
                "action": "store_true",
                "help": "refuse a copy that is older than the present store",
            },
        },
        _restore,
    ),
    "stop": ConsoleVerb(
        "power the system off: its server stops in good order",
        {},
        lambda _: Ask(console.stop_system(), output.stopping),
    ),
    "name": ConsoleVerb(
        "give the system another name",
        {"name": {"metavar": "NAME", "help": "its new name"}},
        lambda args: Ask(console.set_system(args.name), output.system),
    ),
    "recover": ConsoleVerb("end the state Recovery, or begin it", _RECOVER, _recover),
}
