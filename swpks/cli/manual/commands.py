"""Section 1: a page for each command, with a section for each verb."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import chain

from swpks.cli.manual.inline import inline
from swpks.cli.manual.mdoc import argument, escaped, filled, head, literal, tagged
from swpks.cli.manual.prose import EDITION, EVERY_ERROR, FACTS, CommandFacts
from swpks.cli.manual.references import rows, see_also
from swpks.cli.words import Argument, Command

_MANY = 4
"""Verbs that a synopsis does not list."""
_STATUS = "Exit status: "
_HELP_NAMES = {"-h", "--help"}


def command_page(
    command: Command,
    version: str,
    usage: Callable[[str], str],
    more: tuple[tuple[str, str], ...] = (),
) -> str:
    """Return the page of a command.

    `usage` returns the usage of a line of the console; `more` are further sections, as headings and mdoc.
    """
    name = "-".join(command.path)
    facts = FACTS.get(command.path[-1], CommandFacts())
    text = _Described(command, facts)
    parts = chain(
        head(name, 1, command.about, EDITION, version),
        _synopsis(command),
        text.description(),
        options_of(command),
        _verbs(command, usage),
        *((f".Sh {heading}", lines) for heading, lines in more),
        rows("ENVIRONMENT", "Ev ", facts.environment),
        rows("FILES", "Pa ", facts.files),
        text.statuses(),
        text.examples(),
        see_also(("swpks(7)", *facts.see), facts.pages),
    )
    return "\n".join(parts) + "\n"


class _Described:
    """The parser's description of a command, in parts: paragraphs, examples and exit statuses."""

    def __init__(self, command: Command, facts: CommandFacts) -> None:
        self._facts = facts
        self._paragraphs: list[str] = []
        self._examples: list[str] = []
        self._statuses: dict[str, str] = {}
        for each in re.split(r"\n\s*\n", command.description.strip("\n")):
            if each.startswith("    "):
                self._examples += [line.removeprefix("    ") for line in each.splitlines()]
            elif each.startswith(_STATUS):
                self._status(" ".join(each.removeprefix(_STATUS).split()))
            else:
                # For a reader of --help, the first paragraph begins with the name of its command.  A
                # manual page has the name above it.
                self._paragraphs.append(re.sub(r"^`[^`]+`: ", "", each))

    def _status(self, text: str) -> None:
        """Read a text such as "0 done; 1 refused. A further sentence"."""
        listed, _, rest = text.partition(". ")
        for each in listed.rstrip(".").split("; "):
            if found := re.fullmatch(r"(\d+(?: \+ N)?) (.+)", each):
                self._statuses[found[1]] = found[2]
            else:  # a semicolon inside of a text
                last = next(reversed(self._statuses))
                self._statuses[last] += f"; {each}"
        if rest:
            self._paragraphs.append(rest)

    def description(self) -> Iterator[str]:
        """Yield the section DESCRIPTION."""
        yield ".Sh DESCRIPTION"
        paragraphs = [*self._paragraphs, *filter(None, [self._facts.about])]
        for n, each in enumerate(paragraphs):
            yield from [".Pp"] * (n > 0)
            yield from filled(inline(_sentence(each)))

    def statuses(self) -> Iterator[str]:
        """Yield the section EXIT STATUS."""
        yield from rows("EXIT STATUS", "", self._statuses or self._facts.status)
        yield ".Pp"
        yield from filled(inline(EVERY_ERROR))

    def examples(self) -> Iterator[str]:
        """Yield the section EXAMPLES, if there are any."""
        if self._examples or self._facts.examples:
            yield ".Sh EXAMPLES"
        if self._examples:
            yield from literal(self._examples)
        for n, (text, line) in enumerate(self._facts.examples):
            yield from [".Pp"] * (n > 0)
            yield from filled(inline(text))
            yield from literal([line])


def _sentence(text: str) -> str:
    """Return a paragraph as sentences: a summary of the parser has no capital letter and no full stop."""
    text = " ".join(text.split())
    if text[0].islower():
        text = text[0].upper() + text[1:]
    return text if text.endswith((".", ":")) else f"{text}."


def _synopsis(command: Command) -> Iterator[str]:
    yield ".Sh SYNOPSIS"
    yield f".Nm {argument(' '.join(command.path))}"
    yield from _words(_own(command.options), command.operands)
    if command.commands:
        names = [each.path[-1] for each in command.commands]
        yield f".Cm {' | '.join(names)} ..." if len(names) < _MANY else ".Ar VERB ..."


def _own(options: tuple[Argument, ...]) -> list[Argument]:
    """Return the options that a synopsis shows: all but --help."""
    return [each for each in options if not _HELP_NAMES & set(each.names)]


def _words(options: list[Argument], operands: tuple[Argument, ...]) -> Iterator[str]:
    """Yield a line of a synopsis for each option and operand."""
    for each in options:
        macro = f"Fl {_flag(each.names[-1])}" + (f" Ar {argument(each.value)}" if each.value else "")
        more = " ..." if each.repeated else ""
        yield f".{macro}{more}" if each.needed else f".Op {macro}{more}"
    for each in operands:
        macro = f"Ar {argument(each.value)}" + (" ..." if each.repeated else "")
        yield f".{macro}" if each.needed else f".Op {macro}"


def _flag(name: str) -> str:
    """Return the argument of Fl, which puts a dash before it."""
    return rf"\&{escaped(name[1:])}"


def options_of(command: Command) -> Iterator[str]:
    """Yield the section with the operands and options of a command."""
    yield ".Sh OPTIONS"
    yield from _list(list(command.operands), list(command.options))


def _list(operands: list[Argument], options: list[Argument]) -> Iterator[str]:
    yield from tagged((_tag(each), _about(each)) for each in [*operands, *options])


def _tag(each: Argument) -> str:
    if not each.names:
        return f"Ar {argument(each.value)}" + (" ..." if each.repeated else "")
    names = " , ".join(f"Fl {_flag(name)}" for name in each.names)
    return names + (f" Ar {argument(each.value)}" if each.value else "")


def _about(each: Argument) -> Iterator[str]:
    """Yield the text of the parser's help: a fragment in small letters, because it may begin with a value."""
    text = " ".join(each.about.split())
    if each.choices and not all(choice in text for choice in each.choices):
        text += f": {', '.join(each.choices)}" if text else f"one of {', '.join(each.choices)}"
    if each.repeated and each.names and "repeat" not in text:
        text += " (repeat for more)"
    yield from filled(inline(text))


def _verbs(command: Command, usage: Callable[[str], str]) -> Iterator[str]:
    """Yield a subsection for each verb, and then for each line of the console."""
    shared = {name for each in command.options for name in each.names}
    verbs = [each for each in command.commands if not _is_line(each)]
    if verbs:
        yield ".Sh VERBS"
        yield "The options above precede the verb or follow it." if shared > _HELP_NAMES else "Each has"
        yield from [rf".Fl {_flag('--help')} ."] * (shared <= _HELP_NAMES)
    for verb in verbs:
        yield from _verb(command, verb, shared)
        yield from _as_line(verb, usage)
    lines = [each for each in command.commands if _is_line(each)]
    if lines:
        yield ".Sh LINES OF THE CONSOLE"
        yield "A command of the real console is carried out by the console of"
        yield rf".Fl {_flag('--store')} ."
        yield "It exits with 0 or 1."
    for line in lines:
        yield f".Ss {escaped(line.path[-1])}"
        yield from _as_line(line, usage)


def _as_line(command: Command, usage: Callable[[str], str]) -> Iterator[str]:
    """Yield the usage of a line of the console; nothing for a verb that is none."""
    if not any(each.of_line for each in command.options) and not _is_line(command):
        return
    if not _is_line(command):
        yield from (".Pp", "As a line of the real console:")
    yield ".Bd -ragged -offset indent"
    yield from filled(escaped(usage(command.path[-1]).removeprefix("Usage: ")))
    yield ".Ed"


def _is_line(command: Command) -> bool:
    """Return whether a command is one of the real console, and not also a verb."""
    return all(each.of_line for each in command.options) and not command.operands


def _verb(command: Command, verb: Command, shared: set[str]) -> Iterator[str]:
    """Yield the section of a verb with the options that the command does not have."""
    own = [each for each in verb.options if not shared & set(each.names) and not each.of_line]
    before = " ".join(f"Ar {argument(each.value)}" for each in command.operands)
    yield f".Ss {escaped(verb.path[-1])}"
    yield f".Cm {argument(' '.join(command.path))}"
    yield from [f".{before}"] * bool(before)
    yield f".Cm {argument(verb.path[-1])}"
    yield from _words(own, verb.operands)
    yield ".Pp"
    yield from filled(inline(_sentence(verb.about)))
    yield from _only(verb, shared)
    if own or verb.operands:
        yield from _list(list(verb.operands), own)


def _only(verb: Command, shared: set[str]) -> Iterator[str]:
    """Yield a sentence for a verb that does not have all options of its command."""
    has = {name for each in verb.options for name in each.names}
    if shared - has:
        kept = sorted(shared & has - _HELP_NAMES)
        text = "none" if not kept else "only " + ", ".join(rf"\fB{escaped(name)}\fR" for name in kept)
        yield from filled(f"Of the options above it has {text}.")
