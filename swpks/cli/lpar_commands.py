"""The commands that errors of `swpks lpar` advise: each is complete, with the options that the user gave."""

# Why each command names its target
#
# A reader copies an advised command.  Without --state, `swpks hmc` takes SWPKS_HMC, SWPKS_STATE or nothing,
# which may be another system.  So each command has the options of the failed one, also if their values came
# from the environment.
#
# A --socket names no state folder.  By the layout of a state, the control channel is beside the socket of the
# partition.  It is named only if it is there: a socket that was passed by LISTEN_FDS may be anywhere.

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from hcall_abi.consumers import Consumer
from swpks.cli.lpar_values import consumer_word


def state_of(args: argparse.Namespace) -> Path | None:
    """Return the state folder of the partition's system; None if it is not known.

    With --socket, the folder follows from the socket's path.  It counts only if the socket is in a folder
    `run` that also has the control channel.
    """
    if not args.socket:
        return args.state or None
    run: Path = args.socket.parent
    in_state = run.name == "run" and (run / "control.sock").is_socket()
    return run.parent if in_state else None


def hmc_end(args: argparse.Namespace) -> str:
    """Return the option by which `swpks hmc` reaches the system of the partition, "" if none is known."""
    state = state_of(args)
    if state is not None:
        return f"--state {_quoted(state)}"
    control = args.socket and args.socket.parent / "control.sock"
    return f"--socket {_quoted(control)}" if control and control.is_socket() else ""


def hmc_command(args: argparse.Namespace, words: str) -> str:
    """Return a command of `swpks hmc` about the system of the partition."""
    return " ".join(filter(None, ("swpks hmc", hmc_end(args), words)))


def serve_command(args: argparse.Namespace, words: str) -> str:
    """Return a command that starts the server of the partition."""
    state = state_of(args)
    return " ".join(filter(None, ("swpks serve", f"--state {_quoted(state)}" if state else "", words)))


def lpar_command(args: argparse.Namespace, words: str) -> str:
    """Return a command line of `swpks lpar` with other words, for the same partition.

    `args` is the parsed command that runs now.  The returned command has the same connection, consumer and
    password file.
    """
    options = {
        "--socket": args.socket,
        "--tcp": args.tcp,
        "--access-key-file": args.access_key_file,
        "--partition": args.partition,
        "--consumer": None if args.consumer == Consumer.OPERATING_SYSTEM else consumer_word(args.consumer),
        "--password-file": args.password_file,
    }
    state = None if args.socket else args.state
    given = [f"{name} {_quoted(value)}" for name, value in options.items() if value is not None]
    where = ["--state " + _quoted(state)] if state else []
    return " ".join(["swpks lpar", *where, shlex.quote(args.name), words, *given])


def ipl_command(args: argparse.Namespace) -> str:
    """Return the command that restarts the partition, which unsets the passwords of its consumers."""
    return hmc_command(args, f"ipl {shlex.quote(partition_name(args))}")


def partition_name(args: argparse.Namespace) -> str:
    """Return the name of the partition at its system; with --socket, NAME may be another one."""
    return str(args.socket.stem if args.socket and state_of(args) else args.name)


def _quoted(value: object) -> str:
    return shlex.quote(str(value))
