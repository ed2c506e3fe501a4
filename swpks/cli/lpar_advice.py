"""Remedies in refusals of h-calls: for a lost password, or the plain name of a secure-boot variable."""

from __future__ import annotations

import argparse
import shlex

from hcall_abi.calls import Opcode
from hcall_abi.levels import LEVELS
from hcall_abi.statuses import Status
from hcall_client.errors import HcallError, with_message
from swpks.cli.lpar_names import label_of_variable

_OF_AN_OBJECT = ("read", "rm", "confirm", "wrap", "unwrap", "revoke", "unrevoke")
"""Verbs of `swpks lpar` about an existing object, which has a policy."""


def ipl_command(args: argparse.Namespace) -> str:
    """Return the command that restarts the partition, which unsets the passwords of its consumers."""
    state = f" --state {shlex.quote(str(args.state))}" if args.state and not args.socket else ""
    return f"swpks hmc{state} ipl {shlex.quote(args.name)}"


def advised(error: HcallError, args: argparse.Namespace) -> HcallError:
    """Return a refusal; with a remedy, if a password, a variable's name or the level may be its reason."""
    if error.status == Status.H_IN_USE:
        return with_message(error, f"{error.message}; to unset the password: {ipl_command(args)}")
    if error.status == Status.H_NOT_FOUND and (shown := label_of_variable(getattr(args, "label", None))):
        return with_message(error, f"{error.message}; the label of the secure-boot variable is '{shown}'")
    if error.status == Status.H_FUNCTION and (level := _level_of(error.opcode)):
        return with_message(
            error,
            f"{error.message}; if its level is below {level}: swpks serve --firmware {level}",
        )
    if error.status != Status.H_AUTHORITY or error.policy or error.opcode == Opcode.SIGNED_UPDATE:
        return error
    # The answer of some calls does not say whether the password or the policy is the reason.
    given = "" if args.password_file else "if its password is set: --password-file F; "
    lost = f"if the password is lost, {ipl_command(args)} unsets it"
    policy = "; or the policy of the object forbids it" if args.verb in _OF_AN_OBJECT else ""
    return with_message(error, f"{error.message}; {given}{lost}{policy}")


def _level_of(opcode: int) -> str:
    """Return the first firmware level that has a call; "" if all levels with h-calls have it, or none."""
    without = [name for name, level in LEVELS.items() if level.calls and opcode not in level.calls]
    having = [name for name, level in LEVELS.items() if opcode in level.calls]
    return having[0] if having and without else ""
