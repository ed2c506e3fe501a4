"""The verbs of `swpks lpar`: each uses an open session and prints its result.

A verb returns the exit status; a refused call raises HcallError.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from hcall_abi.calls import CALLS, Opcode
from hcall_abi.errors import StorageError
from hcall_abi.policies import describe
from hcall_abi.rules.service import COMMAND_DURABLE
from hcall_abi.statuses import Status, status_name
from hcall_client import calls
from hcall_client.blocking import BlockingChannel
from hcall_client.calls import Authorization
from hcall_client.guests.labels import describe_label, parse_label
from hcall_client.guests.linux import LINUX_7_0
from swpks.cli import streams
from swpks.cli.inputs import PASSWORD_NEEDED
from swpks.cli.lpar_values import chosen_label, opened_output, read_content

OK = 0
REFUSED = 1
RESULTS = (Status.H_SUCCESS, Status.H_CONTINUE)
"""Statuses that are no refusals: H_CONTINUE means that the list has another part."""


def who(args: argparse.Namespace) -> Authorization:
    """Return the consumer of the options, with the password from its file."""
    file = args.password_file
    password = read_content(file, PASSWORD_NEEDED) if file else b""
    return Authorization(args.consumer, password)


def show(args: argparse.Namespace, fields: Mapping[str, Any], lines: list[str]) -> None:
    """Print a result: with --json as JSON, else as lines."""
    streams.say(json.dumps(dict(fields), indent=2) if args.json else "\n".join(lines))


def give(args: argparse.Namespace, about: Mapping[str, Any], data: bytes) -> None:
    """Write bytes to the named file or to standard output; with --json print `about` as JSON.

    JSON has the bytes too, unless they go to a file.
    """
    with giving(args) as put:
        put(about, data)


@contextmanager
def giving(args: argparse.Namespace, size: int = 0) -> Iterator[Callable[[Mapping[str, Any], bytes], None]]:
    """Yield a function that does what `give` does.

    The output is open already, and has room for `size` bytes.
    """
    # Without a file, --json writes JSON to standard output.  So standard output is checked before the call
    # too.
    with opened_output(args.output, size) as put:

        def give_open(about: Mapping[str, Any], data: bytes) -> None:
            if args.json:
                shown = {} if args.output else {"data_hex": data.hex()}
                streams.say(json.dumps({**about, **shown}, indent=2))
            if args.output or not args.json:
                put(data)

        yield give_open


def config(channel: BlockingChannel, args: argparse.Namespace) -> int:
    """Show features, limits and space of the keystore."""
    block = channel.limits()
    fields: dict[str, Any] = {
        "partition": channel.partition,
        "ipl_count": channel.ipl_count,
        "firmware": channel.level,
        **block._asdict(),
    }
    words = {**fields, "supported_policies": describe(block.supported_policies)}
    for name in ("flags", "signed_update_algorithms", "wrapping_features"):
        words[name] = f"0x{fields[name]:X}"
    show(args, fields, [f"{name.replace('_', ' '):26} {value}" for name, value in words.items()])
    return OK


def ls(channel: BlockingChannel, args: argparse.Namespace) -> int:
    """List the labels of a consumer."""
    authorization = who(args)
    labels: list[bytes] = []
    part = calls.Labels((), 0, more=True)
    while part.more:
        part = channel.call(calls.get_object_labels(authorization, part.token))
        labels += part.labels
    fields = {"labels": [_described(label) for label in labels]}
    lines = [describe_label(label) for label in labels]
    # Without labels there is no output: `show` would print an empty line.
    if args.json or lines:
        show(args, fields, lines)
    return OK


def _described(label: bytes) -> dict[str, Any]:
    parts = parse_label(label)
    fields: dict[str, Any] = {"label": describe_label(label), "hex": label.hex()}
    if parts:
        if parts.text is not None:
            fields["name"] = parts.text
        fields |= {"component": parts.component.decode("ascii", "replace"), "os": parts.os}
        fields["name_hex"] = parts.name.hex()
    return fields


def read(channel: BlockingChannel, args: argparse.Namespace) -> int:
    """Read an object: write its bytes to a file or standard output, or print it as JSON."""
    label, size = chosen_label(args), args.size
    if size is None:
        # READ refuses a buffer that is smaller than the object. So the buffer has the size of the largest
        # object.
        limits = channel.limits()
        size = max(limits.max_object_size, limits.max_large_object_size)
    found = channel.call(calls.read_object(who(args), label, size))
    about = {"size": len(found.data), "policy": describe(found.policy), "policy_word": int(found.policy)}
    give(args, about, found.data)
    return OK


def write(channel: BlockingChannel, args: argparse.Namespace) -> int:
    """Make an object from a file or standard input."""
    label, authorization = chosen_label(args), who(args)
    data = read_content(args.input, "an object has at least 1 byte; give its bytes by --in F, or by a pipe")
    channel.call(calls.write_object(authorization, label, data, args.policy))
    return wait_flushed(channel, authorization, label) if args.wait else OK


def rm(channel: BlockingChannel, args: argparse.Namespace) -> int:
    """Remove an object."""
    label, authorization = chosen_label(args), who(args)
    channel.call(calls.remove_object(authorization, label))
    return wait_flushed(channel, authorization, label) if args.wait else OK


def confirm(channel: BlockingChannel, args: argparse.Namespace) -> int:
    """Print whether the newest change to a label is durable."""
    label, authorization = chosen_label(args), who(args)
    if args.wait and wait_flushed(channel, authorization, label) != OK:
        return REFUSED
    answer = channel.call(calls.confirm_object_flushed(authorization, label))
    words = ("flushed" if answer.flushed else "pending") + (
        "" if answer.present else ": no object has this label"
    )
    show(args, answer._asdict(), [words])
    return OK


def wait_flushed(channel: BlockingChannel, authorization: Authorization, label: bytes) -> int:
    """Poll until a change is durable, as often and as long as Linux does."""
    # The loop has the bounds of Linux. So a script gets the same time-outs as a guest.
    end = time.monotonic() + LINUX_7_0.poll_limit
    while not channel.call(calls.confirm_object_flushed(authorization, label)).flushed:
        if time.monotonic() > end:
            raise NotFlushed
        time.sleep(LINUX_7_0.poll_interval)
    return OK


class NotFlushed(StorageError):
    """A change was made, but was not durable in time."""

    def __init__(self) -> None:
        seconds = LINUX_7_0.poll_limit
        message = f"the change acts but was not durable within {seconds:g} s: NVRAM may be in trouble"
        super().__init__(COMMAND_DURABLE, f"{message}, see `swpks hmc status`")


def gen_password(channel: BlockingChannel, args: argparse.Namespace) -> int:
    """Make and set a random password; it is written to a file that only its owner can read.

    The call sets the password and returns it.  The file is opened before the call, and its space is
    allocated: a password that is lost would lock the consumer out until the next IPL.
    """
    length = channel.limits().max_password_size if args.length is None else args.length
    with opened_output(args.output, length) as put:
        put(channel.call(calls.gen_password(args.consumer, length)).password)
    return OK


def set_password(channel: BlockingChannel, args: argparse.Namespace) -> int:
    """Set the password in a file."""
    needed = "a password has at least 1 byte; name another file, or let gen-password make a password"
    channel.call(calls.set_password(args.consumer, read_content(args.new_password_file, needed)))
    return OK


def raw(channel: BlockingChannel, args: argparse.Namespace) -> int:
    """Send any call, right or wrong, and print the answer; return 1 if it was refused."""
    registers = [0] * 9
    for place, value in args.register:
        registers[place - 4] = value
    answer = channel.call(calls.raw_call(args.opcode, registers, args.segment))
    fields = {
        "status": status_name(answer.status),
        "r3": answer.status,
        **{f"r{4 + n}": value for n, value in enumerate(answer.registers)},
        "writes": [{"address": address, "data_hex": data.hex()} for address, data in answer.writes],
    }
    name = CALLS[Opcode(args.opcode)].name if args.opcode in CALLS else f"h-call 0x{args.opcode:X}"
    lines = [f"{name}: {status_name(answer.status)} ({answer.status})"]
    lines += [f"r{4 + n:<2} 0x{value:016X}" for n, value in enumerate(answer.registers) if value]
    lines += [f"written at 0x{address:X}: {data.hex()}" for address, data in answer.writes]
    show(args, fields, lines)
    return OK if answer.status in RESULTS else REFUSED


VERBS: dict[str, Callable[[BlockingChannel, argparse.Namespace], int]] = {
    "config": config,
    "ls": ls,
    "read": read,
    "write": write,
    "rm": rm,
    "confirm": confirm,
    "gen-password": gen_password,
    "set-password": set_password,
    "raw": raw,
}
"""Verbs over one blocking session; keys and `boot` have modules of their own (lpar_keys, lpar_boot)."""
