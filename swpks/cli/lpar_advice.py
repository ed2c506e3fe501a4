"""Remedies in refusals of h-calls: for a lost password, or the plain name of a secure-boot variable."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Mapping
from typing import TypeVar

from hcall_abi.calls import Opcode
from hcall_abi.errors import SwpksError
from hcall_abi.levels import LEVELS
from hcall_abi.statuses import Status
from hcall_client.errors import HcallError, with_message
from swpks.cli.lpar_commands import (
    hmc_command,
    hmc_end,
    lpar_command,
    partition_name,
    serve_command,
)
from swpks.cli.lpar_names import label_of_variable, variable_of_label
from swpks.cli.lpar_passwords import of_authority, of_password_set

_E = TypeVar("_E", bound=SwpksError)


def advised(error: SwpksError, args: argparse.Namespace) -> SwpksError:
    """Return an error with the remedy.

    The error is that of a refused call, or of a change that is not durable.
    """
    completed = _completed(error, args)
    return _of_call(completed, args) if isinstance(completed, HcallError) else completed


def _completed(error: _E, args: argparse.Namespace) -> _E:
    """Return an error whose commands of `swpks hmc` can be copied.

    Each such command in the message gets the partition's name, and the option that names the system.
    """
    from swpks.hmc import verb_remedies  # only an error needs it

    return with_message(error, verb_remedies.completed(error.message, hmc_end(args), partition_name(args)))


def _of_call(error: HcallError, args: argparse.Namespace) -> HcallError:
    """Return a refusal with its remedy.

    A remedy is known if the password, the name or the level may be the reason.
    """
    find = _ADVICE.get(error.status)
    found = find(error, args) if find else ""
    return with_message(error, f"{error.message}; {found}") if found else error


def _of_label(_: HcallError, args: argparse.Namespace) -> str:
    if shown := label_of_variable(getattr(args, "label", None)):
        return f"the label of the secure-boot variable is '{shown}'"
    # UNWRAP takes the label from the wrapped object. Another partition may have made this object, so a list
    # of the labels here may not help.
    return "" if args.verb == "unwrap" else f"`{lpar_command(args, 'ls')}` lists the labels of this consumer"


def _of_function(error: HcallError, args: argparse.Namespace) -> str:
    """Return the advice for a call that the partition does not have.

    The advice is to start the server with a firmware level that has the call, or to switch the keystore on.
    """
    if level := _level_of(error.opcode):
        return f"if its level is below {level}: `{serve_command(args, f'--firmware {level}')}`"
    name = shlex.quote(partition_name(args))
    steps = (f"power {name} off", f"set {name} keystore_kbytes=64", f"power {name} on")
    return "if the keystore is off: " + ", ".join(f"`{hmc_command(args, each)}`" for each in steps)


def _level_of(opcode: int) -> str:
    """Return the first firmware level that has a call.

    Return "" if every level with h-calls has the call, or none has it.
    """
    without = [name for name, level in LEVELS.items() if level.calls and opcode not in level.calls]
    having = [name for name, level in LEVELS.items() if opcode in level.calls]
    return having[0] if having and without else ""


def _of_object(error: HcallError, args: argparse.Namespace) -> str:
    """Return the advice for a label that is taken: a secure-boot variable is changed, and never removed."""
    variable = variable_of_label(getattr(args, "label", None) or b"")
    if error.opcode != Opcode.WRITE_OBJECT or not variable:
        return ""
    change = lpar_command(args, f"update {variable} --auth {variable}.auth")
    return f"{variable} is a secure-boot variable: do not remove it, and change it by `{change}`"


_ADVICE: Mapping[int, Callable[[HcallError, argparse.Namespace], str]] = {
    Status.H_IN_USE: of_password_set,
    Status.H_NOT_FOUND: _of_label,
    Status.H_RESOURCE: _of_object,
    Status.H_FUNCTION: _of_function,
    Status.H_AUTHORITY: of_authority,
}
"""The advice for a refusal by its status, "" for none."""
