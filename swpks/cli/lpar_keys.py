"""The verbs of `swpks lpar` about keys: gen-key, wrap, unwrap, revoke and unrevoke.

As in `swpks.cli.lpar_verbs`, a verb returns the exit status, and a refused call raises HcallError.  A busy
answer is no refusal: the verb repeats the call for as long as `hcall_client.busy` allows.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import TypeVar

from hcall_abi.policies import Policy, describe
from hcall_client import keys
from hcall_client.blocking import BlockingChannel
from hcall_client.busy import Make, until_done
from hcall_client.calls import Authorization, Request
from swpks.cli.lpar_values import UsageError, chosen_label, read_content
from swpks.cli.lpar_verbs import OK, give, giving, show, wait_flushed, who

T = TypeVar("T")


def gen_key(channel: BlockingChannel, args: argparse.Namespace) -> int:
    """Make a wrapping key or a plain key.

    A wrapping key is never returned.  A plain key is written to the output.
    """
    label, authorization = chosen_label(args), who(args)
    if args.length is None:
        if args.output:
            raise UsageError("--out goes with --length: a wrapping key is never given out")
        policy = args.policy | Policy.WRAPPINGKEY
        _done(channel, lambda _: keys.gen_wrapping_key(authorization, label, policy))
    else:
        call = keys.gen_key(authorization, label, args.length, args.policy)
        # The output is opened before the key is made. If the key were lost, a second call would be refused,
        # and the policy may forbid every READ.
        with giving(args, args.length) as give_key:
            give_key({"size": args.length}, _done(channel, lambda _: call))
    return wait_flushed(channel, authorization, label) if args.wait else OK


def wrap(channel: BlockingChannel, args: argparse.Namespace) -> int:
    """Encrypt a file or standard input under a wrapping key."""
    label, authorization = chosen_label(args), who(args)
    data = read_content(args.input, "wrap needs at least 1 byte; give the bytes by --in F, or by a pipe")
    wrapped = _done(channel, lambda token: keys.wrap_object(authorization, label, data, args.flags, token))
    give(args, {"size": len(wrapped)}, wrapped)
    return OK


def unwrap(channel: BlockingChannel, args: argparse.Namespace) -> int:
    """Decrypt a wrapped object out of a file or standard input."""
    authorization = who(args)
    wrapped = read_content(args.input, "give the output of wrap by --in F, or by a pipe")
    data = _done(channel, lambda token: keys.unwrap_object(authorization, wrapped, token=token))
    give(args, {"size": len(data)}, data)
    return OK


def revoke(channel: BlockingChannel, args: argparse.Namespace) -> int:
    """Take a wrapping key out of use and show its policy word."""
    return _change_use(channel, args, keys.revoke_object)


def unrevoke(channel: BlockingChannel, args: argparse.Namespace) -> int:
    """Put a revoked wrapping key into use again and show its policy word."""
    return _change_use(channel, args, keys.unrevoke_object)


def _change_use(
    channel: BlockingChannel,
    args: argparse.Namespace,
    make: Callable[[Authorization, bytes], Request[Policy]],
) -> int:
    label, authorization = chosen_label(args), who(args)
    policy = _done(channel, lambda _: make(authorization, label))
    fields = {"policy": describe(policy), "policy_word": int(policy)}
    show(args, fields, [describe(policy)])
    return wait_flushed(channel, authorization, label) if args.wait else OK


def _done(channel: BlockingChannel, make: Make[T]) -> T:
    return until_done(channel.call, make, time.sleep)


KEY_VERBS: dict[str, Callable[[BlockingChannel, argparse.Namespace], int]] = {
    "gen-key": gen_key,
    "wrap": wrap,
    "unwrap": unwrap,
    "revoke": revoke,
    "unrevoke": unrevoke,
}
"""The verbs about keys, each over one blocking session."""
