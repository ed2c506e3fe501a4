"""The values on the command line of `swpks lpar`: labels, policies, consumers, files."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from enum import IntFlag
from pathlib import Path

from hcall_abi.bounds import LONGEST_TIMEOUT
from hcall_abi.calls import CALLS, Opcode
from hcall_abi.console import LARGEST_PARTITION_ID
from hcall_abi.consumers import Consumer
from hcall_abi.errors import OperatorError
from hcall_abi.frames import Segment
from hcall_abi.near import near_question
from hcall_abi.policies import Policy
from hcall_abi.rules import service as rules
from hcall_abi.rules.rule import Rule
from hcall_abi.structures import OS_COMMON, OS_LINUX
from hcall_abi.wrapping import DEFAULT_WRAP_FLAGS, WrapFlag
from hcall_client.guests.labels import label_of, os_label, plain_bytes
from swpks.cli import streams
from swpks.cli.durations import bounded_seconds
from swpks.cli.files import output, read_input
from swpks.cli.inputs import content_of
from swpks.cli.refusals import reason_of

CONSUMERS = {
    "firmware": Consumer.FIRMWARE,
    "boot-loader": Consumer.BOOT_LOADER,
    "os": Consumer.OPERATING_SYSTEM,
}
OS_FLAGS = {"linux": OS_LINUX, "common": OS_COMMON}


class UsageError(OperatorError):
    """The command line is wrong, or names a file that can't be used; no call was sent."""

    def __init__(self, message: str, rule: Rule = rules.COMMAND_USAGE) -> None:
        super().__init__(rule, message)


def number(text: str, bits: int = 64) -> int:
    """Return an unsigned number of `bits` bits: decimal, or hexadecimal with 0x."""
    try:
        # Base 0 accepts 0x: the contract's pages write opcodes and policy words so.
        found = int(text, 0)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number (decimal or 0x...)") from None
    if not 0 <= found < 1 << bits:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 2^{bits} - 1")
    return found


def length(text: str) -> int:
    """Parse a length in bytes.  It must fit into 32 bits, as the length field of a frame has."""
    return number(text, 32)


def seconds(text: str) -> float:
    """Return a timeout: above 0 and at most `LONGEST_TIMEOUT` seconds."""
    return bounded_seconds(text, LONGEST_TIMEOUT, "timeout")


def partition_id(text: str) -> int:
    """Return the id of a partition: 0 to 65535."""
    found = number(text)
    if not 0 <= found <= LARGEST_PARTITION_ID:
        raise argparse.ArgumentTypeError(f"{text!r} is no partition id: 0 to {LARGEST_PARTITION_ID}")
    return found


def consumer(text: str) -> int:
    """Return a consumer by its name; any number is permitted, so that a test can send a wrong one."""
    if text in CONSUMERS:
        return CONSUMERS[text]
    if not text[:1].isdigit():
        near = near_question(text, CONSUMERS)
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(CONSUMERS)}, and no number{near}")
    return number(text)


def consumer_word(number: int) -> str:
    """Return the word of a consumer on the command line, or its number if it has none."""
    return next((word for word, each in CONSUMERS.items() if each == number), str(number))


def opcode(text: str) -> int:
    """Return the opcode for the name of an h-call, or for a number.

    The name may omit H_PKS_.  Any number is permitted, so that a test can send a wrong one.
    """
    name = text.upper().removeprefix("H_PKS_")
    if name in Opcode.__members__:
        return Opcode[name]
    if not text[:1].isdigit():
        near = near_question(name, Opcode.__members__)
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither an h-call, such as GET_CONFIG, nor a number (decimal or 0x...){near}"
        )
    found = number(text)
    if text.isdigit() and found not in CALLS and int(text, 16) in CALLS:
        streams.complain(f"swpks lpar: warning: {text} is a decimal number; the h-call is 0x{text}")
    return found


def plain_label(text: str) -> bytes:
    """Return the label for a text, for `utf16:` and a variable's name, or for `hex:` and bytes."""
    return _label(plain_bytes, text)


def shown_label(text: str) -> bytes:
    """Return the label for text that `ls` prints, with or without a header, or that `plain_label` accepts."""
    return _label(label_of, text)


def _label(read: Callable[[str], bytes], text: str) -> bytes:
    try:
        return read(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def headed_label(text: str) -> tuple[str, bytes]:
    """Return component and name of COMPONENT:NAME; NAME is any text that `plain_label` accepts."""
    component, colon, name = text.partition(":")
    if not colon:
        raise argparse.ArgumentTypeError(f"{text!r} is not COMPONENT:NAME")
    return component, plain_label(name)


def os_flag(text: str) -> int:
    """Return the operating system's flag in a label's header: linux, common, or a number."""
    if text in OS_FLAGS:
        return OS_FLAGS[text]
    if not text[:1].isdigit():
        near = near_question(text, OS_FLAGS)
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(OS_FLAGS)}, and no number{near}")
    return number(text)


def policy(text: str) -> int:
    """Return the policy word for a number, or for names that are separated by commas or by |."""
    if text[:1].isdigit():
        return number(text)
    return _flags(text, Policy, "policy")


def _flags(text: str, known: type[IntFlag], what: str) -> int:
    """Return the word for flag names; ArgumentTypeError with the near names for an unknown name."""
    word, names = 0, [each.name or "" for each in known]
    for name in filter(None, re.split(r"\s*[,|]\s*", text.strip().upper())):
        if name not in names:
            listed, near = ", ".join(names).lower(), near_question(name, map(str.lower, names))
            raise argparse.ArgumentTypeError(f"unknown {what} {name.lower()!r}{near}; known are {listed}")
        word |= known[name]
    return word


def wrap_flags(text: str) -> int:
    """Return wrap flags from a number or from names.

    A number stays unchanged.  To the bits of names, those that WRAP demands are added.
    """
    if text[:1].isdigit():
        return number(text)
    # A number is sent as given, so that a test can send a wrong word; names are for people.
    return DEFAULT_WRAP_FLAGS | _flags(text, WrapFlag, "wrap flag")


def register(text: str) -> tuple[int, int]:
    """Return number and value of the register in rN=VALUE; N is 4 to 12."""
    name, _, value = text.partition("=")
    if name not in {f"r{n}" for n in range(4, 13)}:
        raise argparse.ArgumentTypeError(f"{text!r} is not rN=VALUE with r4 to r12")
    return int(name[1:]), number(value)


def segment(text: str) -> Segment:
    """Return the guest memory in ADDRESS:in:BYTES (BYTES is hex:.. or @FILE) or ADDRESS:out:LENGTH."""
    parts = text.split(":", 2)
    if len(parts) != 3 or parts[1] not in ("in", "out"):
        near = near_question(parts[1], ("in", "out")) if len(parts) == 3 else ""
        raise argparse.ArgumentTypeError(f"{text!r} is neither ADDRESS:in:BYTES nor ADDRESS:out:LENGTH{near}")
    address, access, rest = parts
    if access == "out":
        return Segment.written(number(address), length(rest))
    if not rest.startswith("@"):
        return Segment.read(number(address), plain_label(rest))
    try:
        # @FILE keeps a password out of the command line, which other users of the machine can read.
        return Segment.read(number(address), read_file(Path(rest[1:])))
    except UsageError as error:
        raise argparse.ArgumentTypeError(error.message) from None


def chosen_label(args: argparse.Namespace) -> bytes:
    """Return the label that the command is about: LABEL, or the one built from --os-label.

    --os-label has a component and a name.  Only such a label is built with a header.
    """
    if (args.label is None) == (args.os_label is None):
        raise UsageError("give either LABEL or --os-label COMPONENT:NAME")
    if args.os_label is None:
        return bytes(args.label)
    try:
        component, name = args.os_label
        return os_label(component, name, args.os_flag)
    except ValueError as error:
        raise UsageError(str(error)) from None


def read_content(path: Path | None, needed: str) -> bytes:
    """Return the bytes of a file, or of standard input for `-`.

    Raises EmptyInput if there are none, and the errors of `read_file`.
    """
    with _reading(path):
        return content_of(path, needed)


def read_file(path: Path | None) -> bytes:
    """Return the bytes of a file; of standard input without a path, or for `-`."""
    with _reading(path):
        return read_input(path)


@contextmanager
def _reading(path: Path | None) -> Iterator[None]:
    """Turn an error of the input into a UsageError."""
    try:
        yield
    except OSError as error:
        message = f"cannot read {path or 'standard input'}: {reason_of(error)}"
        raise UsageError(message, rules.COMMAND_FILE) from None


@contextmanager
def opened_output(path: Path | None, size: int = 0) -> Iterator[Callable[[bytes], None]]:
    """Yield a function that writes the result of a call.

    UsageError, before the call, if the result could not be written.  If the call cannot be repeated, `size`
    is the largest result in bytes.  If it can be repeated, `size` is 0.
    """
    with ExitStack() as stack:
        with _writing(path):
            # `_writing` covers the opening and each write, and not the block. An OSError in the block is an
            # error of the connection.
            put = stack.enter_context(output(path, size))

        def write(data: bytes) -> None:
            with _writing(path):
                put(data)

        yield write


@contextmanager
def _writing(path: Path | None) -> Iterator[None]:
    """Raise UsageError for an OSError in the block."""
    try:
        yield
    except OSError as error:
        message = f"cannot write {path or 'standard output'}: {reason_of(error)}"
        raise UsageError(message, rules.COMMAND_FILE) from None
