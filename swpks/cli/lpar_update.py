"""`swpks lpar NAME update`: a signed update of a secure-boot variable, from a file of a public tool."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from hcall_abi.rules.service import COMMAND_AUTH_FILE
from hcall_abi.variables import FLAG_APPEND
from hcall_client.blocking import BlockingChannel
from hcall_client.busy import until_done
from hcall_client.calls import Request, signed_update
from hcall_client.guests import authvar
from swpks.cli.files import STANDARD
from swpks.cli.lpar_doubts import warn_of_doubts
from swpks.cli.lpar_files import foreign_form
from swpks.cli.lpar_names import check_name
from swpks.cli.lpar_values import UsageError, read_content
from swpks.cli.lpar_verbs import OK, wait_flushed, who

UPDATE_FLAGS = {"none": 0, "append": FLAG_APPEND}
"""The words of --flags, each with the flags of the h-call."""


SIGNED_FORM = (
    "needed is a signed update, as sign-efi-sig-list writes it from signature lists (cert-to-efi-sig-list "
    "makes them from a certificate)"
)


def update(channel: BlockingChannel, args: argparse.Namespace) -> int:
    """Change a secure-boot variable by an auth file, as Linux does for a write to `update`."""
    if not args.any_name:
        check_name(args.variable)
    _demand_input(args.auth)
    content = read_content(args.auth, "give the signed update by --auth F, or by a pipe")
    flags, payload = _taken_apart(content, args.flags, args.auth)
    warn_of_doubts(args.name, payload)
    label, authorization = authvar.variable_label(args.variable), who(args)
    policy = authvar.variable_policy(args.variable) if args.policy is None else args.policy

    def make(token: int) -> Request[None]:
        return signed_update(authorization, label, payload, policy, flags, token)

    until_done(channel.call, make, time.sleep)
    return wait_flushed(channel, authorization, label) if args.wait else OK


def _demand_input(path: Path | None) -> None:
    """Raise UsageError if the update would be read from a terminal, which would wait without a word."""
    if path in STANDARD and sys.stdin is not None and sys.stdin.isatty():
        raise UsageError("the signed update is missing: give it by --auth F, or by a pipe")


def _taken_apart(data: bytes, flags: str | None, path: Path | None) -> authvar.AuthFile:
    """Return flags and payload of a file; UsageError if its content contradicts --flags."""
    name = str(path) if path else "standard input"
    form = authvar.form_of(data)
    # Each of the three public tools writes another form. If the form is wrong, the h-call refuses it with a
    # status that does not name the reason.
    if form is authvar.FileForm.LISTS:
        reason = "holds unsigned signature lists: sign them with sign-efi-sig-list first"
        raise _wrong(f"{name} {reason}")
    if form is authvar.FileForm.UNKNOWN and (found := foreign_form(data)):
        raise _wrong(f"{name} is {found}: {SIGNED_FORM}")
    if flags is not None:
        if form is authvar.FileForm.AUTH_FILE:
            raise _wrong(f"{name} has 8 bytes of flags before its payload: leave --flags out")
        return authvar.AuthFile(UPDATE_FLAGS[flags], data)
    if form is authvar.FileForm.PAYLOAD:
        reason = (
            "begins with EFI_VARIABLE_AUTHENTICATION_2, as sign-efi-sig-list and sbvarsign write it; an auth "
            "file has 8 bytes of flags before it: add --flags none, or --flags append if it was made with -a"
        )
        raise _wrong(f"{name} {reason}")
    try:
        return authvar.parse_auth_file(data)
    except ValueError as error:
        raise _wrong(f"{name}: {error}") from None


def _wrong(message: str) -> UsageError:
    """Return the error for a file that is no auth file; it does not blame the command line."""
    return UsageError(message, COMMAND_AUTH_FILE)
