"""`swpks`: the command line.  A subcommand's module is loaded only when it is chosen."""

# From words to an exit status
#
# The command line guarantees three things. Each error has one shape (refusals.py). A short command starts
# quickly. If the exit status is 0, the output was written.
#
# Loading.  Only the module of the named command is imported: `swpks serve` needs the whole server, and other
# commands must not load it.  So `_parser` gives a full subparser to the chosen command only; the others have
# their names and summaries.  Completion and capabilities need all of them (`whole_parser`).
#
# Lines of the console.  `swpks hmc lssyscfg ...` has options that argparse would reject.  So `_line` looks at
# the words before argparse does (hmc_line.py).
#
# argparse.  It prints its usage and ends the process for a wrong command line, and it ignores a standard
# output that is full.  CommandParser raises instead; `_parsed_aloud` collects the help text and prints it
# under our own checks.
#
# The end.  Output is flushed in `_run`, because a failure after `main` has returned could not change the exit
# status any more.  Unwritten bytes of standard error are dropped at last: Python would try them again at
# exit.

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import io
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.near import NEAREST, did_you_mean, near_names
from hcall_abi.rules import service as rules
from hcall_abi.rules.rule import Fault
from hcall_abi.scarcity import scarcity_of
from hcall_server import __version__
from swpks.cli import refusals, streams
from swpks.cli.parser import CommandParser, WrongWords, lines_elsewhere
from swpks.hmc.names import LINES

COMMANDS = {
    "serve": "serve a managed system: a socket for each partition, and one for the console",
    "lpar": "make h-calls as a partition's firmware, boot loader or operating system",
    "snapshot": "save, load and compare named snapshots of a system",
    "asmi": "erase the secrets of a powered-off system",
    "hmc": "run a management console, or send commands to one: power, copies, recovery",
    "qemu": "run a Linux kernel in QEMU with a partition's keystore",
    "explain": "show the rule and the page that an error cites",
    "capabilities": "print the versions, levels, calls, formats and options of this swpks",
    "c-header": "print the path of the C header of h-calls and frames",
    "dissector": "print the Wireshark dissector of h-calls and frames",
    "completion": "print the completion for a shell",
    "conformance": "judge a server or a client of the data channel by the contract",
    "simulate": "test migrations in a simulated world",
    "bench": "measure the main figures of a server",
    "demo": "run the demo: a partition locks its objects, loses power, and gets its store back",
}
"""Each command is a module or package beside this one whose `add_parser(subparsers)` sets a default `run`.

A hyphen in a command is an underscore in the name of its module."""

COLLECT_WHEN_READY = {"serve"}
"""Commands that turn the garbage collector on themselves; swpks/__main__.py has the reason why it is off."""

JSON_FILES = {"bench", "conformance"}
"""Commands whose --json is the name of a file; of the others it is the form of the output, and of errors."""

EXIT_STATUS = {Fault.GUEST: 1, Fault.PEER: 1, Fault.OPERATOR: 2, Fault.STORAGE: 3, Fault.INTERNAL: 1}
"""Exit status by the fault of an error; 0 is success, 130 an interrupt."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        streams.prepare()
        return _run(given)
    except SwpksError as error:
        return _fail(given, error)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        # Memory, threads or descriptors may run out anywhere, in library code too. Such a shortage is no
        # error of the program, so no traceback is printed.
        scarce = scarcity_of(error)
        if scarce is None:
            raise
        return _fail(given, scarce)
    finally:
        streams.drop_unwritten(sys.stderr)


def _run(given: list[str]) -> int:
    """Run the command, then flush its output; return the exit status."""
    try:
        if given[:1] == ["hmc"] and (status := _line(given[1:])) is not None:
            return status
        with streams.output():
            options = _parsed_aloud(given)
        _demand_folder(options)
        if options.command not in COLLECT_WHEN_READY:
            gc.enable()
        try:
            return int(options.run(options) or 0)
        except SwpksError as error:
            return _fail(given, error, _words(options))
    finally:
        with streams.output():
            sys.stdout.flush()


def _line(words: list[str]) -> int | None:
    """Carry out a line of the management console; None for words that argparse parses."""
    from swpks.cli.hmc_line import carried_out

    return carried_out(words)


def _parsed_aloud(given: list[str]) -> argparse.Namespace:
    """Return the parsed arguments; print the help text or the version if an argument asks for it."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            return _parsed(given)
    finally:
        if said.getvalue():
            print(said.getvalue(), end="", flush=True)


def _fail(given: list[str], error: SwpksError, words: str | None = None) -> int:
    """Print an error in one line; return the exit status."""
    if words is None:
        words = (error.words if isinstance(error, WrongWords) else "") or _command(given)
    as_json = "--json" in given and _command(given) not in JSON_FILES
    refusals.refuse(words, error, as_json=as_json)
    return EXIT_STATUS[error.fault]


def _command(given: list[str]) -> str:
    """Return the command that the arguments name, "" if there is no such command."""
    chosen = _chosen(given)
    return chosen if chosen in COMMANDS else ""


def _chosen(given: list[str]) -> str:
    return next((word for word in given if not word.startswith("-")), "")


def _words(options: argparse.Namespace) -> str:
    """Return the command with its partition and its verb, for an error message."""
    partition = options.name if options.command == "lpar" else None
    verb = getattr(options, "verb", None) or getattr(options, "action", None)
    return " ".join(filter(None, (options.command, partition, verb)))


def _demand_folder(options: argparse.Namespace) -> None:
    """Raise OperatorError for a relative path if the working directory was deleted."""
    # The folder is checked here, once for all commands. Otherwise each command would report a missing file,
    # although the folder is missing.
    relative = [value for value in vars(options).values() if _is_relative(value)]
    if not relative:
        return
    try:
        Path.cwd()
    except OSError as error:
        message = (
            f"{relative[0]} is relative to the working directory, which is gone ({error.strerror or error})"
        )
        advice = "give an absolute path, or change the directory"
        raise OperatorError(rules.COMMAND_FOLDER, f"{message}: {advice}") from None


def _is_relative(value: object) -> bool:
    """Return whether an option is a relative path; "-" is standard input or output."""
    return isinstance(value, Path) and not value.is_absolute() and str(value) != "-"


def _parsed(given: list[str]) -> argparse.Namespace:
    """Return the parsed arguments; only the module of the named command is loaded."""
    chosen = _chosen(given)
    parser = _parser([chosen])
    # All commands have one version, so it may be asked for behind a command too. Words behind -- are QEMU's.
    if chosen in COMMANDS and "--version" in given[: given.index("--") if "--" in given else None]:
        given = ["--version"]
    try:
        options, unknown = parser.parse_known_args(given)
    except WrongWords as error:
        raise _reordered(given, error) from None
    if unknown:
        raise _unrecognized(parser, options, unknown, given)
    return options


def _reordered(given: list[str], error: WrongWords) -> WrongWords:
    """Return the error of a command line, with the right form of words that are mixed up."""
    if given[:1] == ["hmc"]:
        from swpks.cli.stray_words import of_verb

        advice = of_verb(given)
        return WrongWords(error.words, f"{error.message}{advice}") if advice else error
    if given[:1] != ["lpar"]:
        return error
    from swpks.cli.lpar import VERB_NAMES
    from swpks.cli.stray_words import of_order

    right = of_order(given, VERB_NAMES)
    return WrongWords(error.words, f"{error.message}{right}") if right else error


def _unrecognized(
    parser: argparse.ArgumentParser, options: argparse.Namespace, unknown: list[str], given: list[str]
) -> WrongWords:
    """Return the error for unknown words.

    It names the command, and a similar option or the commands that have this option.  argparse would name
    none of them.
    """
    from swpks.cli.stray_words import of_unknown, of_verb  # only an error needs these modules
    from swpks.cli.words import of_other_commands, option_names

    words, known = _words(options), option_names(parser, options)
    wrong = [each.partition("=")[0] for each in unknown if each.startswith("--")]
    near = next(filter(None, (_near_option(each, known) for each in wrong)), "")
    other = "" if near or not wrong else of_other_commands(whole_parser(), wrong[0])
    verb = of_verb(given) if given[:1] == ["hmc"] else ""
    right = of_unknown(options, unknown) or verb
    told = f"unrecognized arguments: {' '.join(unknown)}{right or near or other}"
    return WrongWords(words, f"{told}; for the usage: swpks {words} --help")


def _near_option(word: str, known: Iterable[str]) -> str:
    """Return the question after a similar option, "" if there is none."""
    # The dashes are not compared: `--as` and `--json` would have half of their characters in common.
    # The word itself is an option of another place, such as the command above a verb.
    bare = {name.lstrip("-"): name for name in known if name.startswith("--") and name != word}
    given = word.lstrip("-")
    near = near_names(given, bare, NEAREST) or [each for each in bare if given.startswith(f"{each}-")]
    question = did_you_mean(bare[each] for each in near)
    return question and f"; {question}"


def whole_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; this loads the modules of all commands."""
    return _parser(list(COMMANDS))


def _parser(chosen: Sequence[str | None]) -> argparse.ArgumentParser:
    """Return the parser; a command that is not in `chosen` has only a name and a summary."""
    parser = CommandParser(prog="swpks", description="A software PowerVM Platform KeyStore.")
    parser.elsewhere = lines_elsewhere(LINES)
    parser.add_argument("--version", action="version", version=f"swpks {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        if name in chosen:
            importlib.import_module(f"swpks.cli.{name.replace('-', '_')}").add_parser(subparsers)
        else:
            subparsers.add_parser(name, help=summary)
    return parser


if __name__ == "__main__":
    sys.exit(main())
