"""The options of the console's commands as tables, and the one parser of them (spec/console.md#lines).

A line may have its options in any order.  An option takes no value, one value, or all words up to the next
option.  Pure: only the command of an option knows the meaning of a value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from hcall_abi.errors import OperatorError
from hcall_abi.rules import hmc as rules
from hcall_abi.rules.rule import Rule
from hcall_server.console.grammar import nearest

Takes = Literal["nothing", "value", "words"]
Ignored = Literal["nothing", "value", "number"]


@dataclass(frozen=True)
class Option:
    """An option: its flag, the values that it takes, and whether a line needs it.

    `choices` are the permitted values; if it is empty, any value is permitted.  `shown` stands for the value
    in a usage line.  `number` says that the value must be a decimal number.
    """

    flag: str
    shown: str = ""
    takes: Takes = "value"
    choices: tuple[str, ...] = ()
    required: bool = False
    number: bool = False

    @property
    def usage(self) -> str:
        """The option in a usage line: in brackets, unless it is required."""
        values = "{" + " | ".join(self.choices) + "}" if len(self.choices) > 1 else "".join(self.choices)
        text = f"{self.flag} {values or self.shown}".rstrip()
        return text if self.required else f"[{text}]"


def switch(flag: str) -> Option:
    """Return an option without a value."""
    return Option(flag, takes="nothing")


def _unused(flag: str, takes: Ignored) -> Option:
    return switch(flag) if takes == "nothing" else Option(flag, number=takes == "number")


@dataclass(frozen=True)
class Syntax:
    """The options of one command.

    `one_of` has groups of options: a line has exactly one option of each group.  `ignored` are options of the
    real console that change nothing here, each with the kind of its value.
    """

    command: str
    options: tuple[Option, ...]
    one_of: tuple[tuple[str, ...], ...] = ()
    ignored: Mapping[str, Ignored] = field(default_factory=dict)

    @property
    def usage(self) -> str:
        """The usage line, without options that are ignored."""
        return " ".join([f"Usage: {self.command}", *(each.usage for each in self.options)])

    @property
    def known(self) -> dict[str, Option]:
        """Every option by its flag."""
        ignored = {flag: _unused(flag, takes) for flag, takes in self.ignored.items()}
        return {each.flag: each for each in self.options} | ignored

    def parse(self, words: Sequence[str]) -> Options:
        """Return the options of a line; OperatorError if one is unknown, missing, or has a wrong value."""
        given = self._given(words)
        for option in self.options:
            if option.required and option.flag not in given:
                raise self._refused(rules.LINE_NEEDED, f"the option {option.flag} is missing")
        for group in self.one_of:
            found = [flag for flag in group if flag in given]
            if len(found) != 1:
                finding = f"{' and '.join(found)} exclude each other" if found else "one of them is missing"
                raise self._refused(rules.LINE_NEEDED, f"of the options {', '.join(group)}: {finding}")
        return Options(self.command, given)

    def _given(self, words: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Return the words of each option that a line has."""
        known, given, position = self.known, dict[str, tuple[str, ...]](), 0
        while position < len(words):
            option = known.get(words[position])
            if option is None:
                word = words[position][:40]
                finding = f"{word!r} is not one of its options{nearest(word, known)}"
                raise self._refused(rules.LINE_OPTION, finding)
            if option.flag in given:
                raise self._refused(rules.LINE_OPTION, f"the option {option.flag} is given twice")
            # The words of an option end before a word that begins with a dash.  A single value may itself
            # begin with a dash.
            end = position + 1
            if option.takes == "words":
                while end < len(words) and not words[end].startswith("-"):
                    end += 1
            elif option.takes == "value":
                end += 1
            given[option.flag] = self._checked(option, tuple(words[position + 1 : end]))
            position = end
        return given

    def _checked(self, option: Option, words: tuple[str, ...]) -> tuple[str, ...]:
        """Return the words of an option; OperatorError if the value is missing or is not permitted."""
        # A known flag is never a value.  In `-m -n lpar1` the value of -m is missing, and -n must not count
        # as the name of a system.
        if option.takes == "value" and (not words or words[0] in self.known):
            raise self._refused(rules.LINE_OPTION, f"the option {option.flag} needs a value")
        # `isdigit` alone also accepts digits of other scripts, and superscripts.
        if option.number and not (words[0].isascii() and words[0].isdigit()):
            raise self._refused(rules.LINE_CHOICE, f"{option.flag} takes a number, not {words[0][:40]!r}")
        if option.choices and words[0] not in option.choices:
            near = nearest(words[0], option.choices)
            finding = f"{option.flag} takes {', '.join(option.choices)}, not {words[0][:40]!r}{near}"
            raise self._refused(rules.LINE_CHOICE, finding)
        return words

    def _refused(self, rule: Rule, finding: str) -> OperatorError:
        return OperatorError(rule, f"{self.command}: {finding}.\n{self.usage}", advised=True)


@dataclass(frozen=True)
class Options:
    """The options of one line, each with the words after its flag."""

    command: str
    given: Mapping[str, tuple[str, ...]]

    def __contains__(self, flag: str) -> bool:
        return flag in self.given

    def value(self, flag: str) -> str | None:
        """Return the value of an option, None if the line does not have it."""
        words = self.given.get(flag)
        return words[0] if words else None

    def needed(self, flag: str) -> str:
        """Return the value of an option that its table requires."""
        return self.given[flag][0]

    def words(self, flag: str) -> tuple[str, ...]:
        """Return all words of an option, none if the line does not have it."""
        return self.given.get(flag, ())
