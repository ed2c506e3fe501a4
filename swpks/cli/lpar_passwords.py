"""The advice of `swpks lpar` about passwords: one that is missing, wrong, lost, or set already."""

# How much a refusal says
#
# H_AUTHORITY has two reasons, the password and the policy. If the policy is the reason, READ, REVOKE and
# UNREVOKE return it. But a policy that REVOKE or UNREVOKE refuses may itself be 0. CONFIRM and
# GET_OBJECTLABELS check no policy. WRITE and GEN_KEY check none if the policy is 0. For these calls the
# message names the password. For others it says "perhaps".
#
# A password that was right before the last IPL is refused as a wrong one is: no password is set now. The
# answer does not distinguish the two, so the message has the way out of both. Further calls could find out.
# But a test of a guest counts calls, and faults are injected by their number.

from __future__ import annotations

import argparse

from hcall_abi.calls import Opcode
from hcall_client.errors import HcallError
from swpks.cli.lpar_commands import ipl_command
from swpks.cli.lpar_values import consumer_word

_OF_AN_OBJECT = ("rm", "wrap", "unwrap", "revoke", "unrevoke")
"""Verbs about an existing object whose policy may be the reason, although the answer does not have it."""
_MAKING = ("write", "gen-key")
"""Verbs that make an object; its maker must be able to reach it."""


def of_authority(error: HcallError, args: argparse.Namespace) -> str:
    """Return the advice for H_AUTHORITY; "" if the policy of the object is the reason."""
    if error.policy:
        return ""
    if error.opcode == Opcode.SIGNED_UPDATE:
        # The reason may be another rule. The message of the error already sends the reader to the server's
        # log, which names the broken rule.
        return f"if that is password.fits: {_of_password(args, '')}"
    policy = _policy(args)
    return _of_password(args, "perhaps " if policy else "") + policy


def _of_password(args: argparse.Namespace, doubt: str) -> str:
    lost = f"if the password is lost, `{ipl_command(args)}` unsets it"
    if not args.password_file:
        return f"if its password is set: --password-file F; {lost}"
    return (
        f"{doubt}the password in {args.password_file} is not that of the consumer "
        f"{consumer_word(args.consumer)} in this IPL: name the right file by --password-file, or leave it "
        f"out if no password was set since the last IPL; {lost}"
    )


def _policy(args: argparse.Namespace) -> str:
    """Return the clause that names a policy as a possible reason; "" if no policy can be the reason."""
    if args.verb in _OF_AN_OBJECT:
        return "; or the policy of the object forbids it"
    if args.verb in _MAKING and args.policy:
        return "; or this IPL has not the password or the secure-boot mode that --policy demands"
    return ""


def of_password_set(_: HcallError, args: argparse.Namespace) -> str:
    """Return the advice for a password that cannot be set twice in an IPL."""
    unset = f"to unset the password: `{ipl_command(args)}`"
    if args.verb == "boot":
        return f"boot sets each password itself, and a consumer has one already in this IPL; {unset}"
    return (
        f"the password of the consumer {consumer_word(args.consumer)} is set until the next IPL: it is in "
        "the --out file of the gen-password or boot that set it, in the --new-password-file of a "
        f"set-password, or in no file if a guest set it; use that file with --password-file; {unset}"
    )
