"""Lines of the real console, such as `lssyscfg -r lpar`, after `swpks hmc`: they are sent unchanged."""

# Lines of the real console
#
# A line such as `lssyscfg -r lpar -F name` has the syntax of the real console. The console's own parser reads
# it. argparse must not see such words: it would look for options of ours among them, and accept
# abbreviations.
#
# So `line_of` cuts the words in two: first options of ours that name the store, then the line.  The first
# word that is no option of ours decides.  Three cases need care:
#
#   - `chtskey` and `lstskey` (ALSO_VERBS) are lines at a console, and verbs at a system.  The options that
#     name the target decide; without these options, the environment does (SWPKS_HMC before SWPKS_STATE, as in
#     hmc_target.py).
#   - `-m` before a line is an option of ours; after it, `-m` is an option of the line.  An `-m` before a line
#     is refused, and the error names the right place: users know it from verbs, which have it there.
#   - `--json` and `--timeout` have no meaning for a line: it prints the exact output of the real console.

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from itertools import pairwise

from hcall_abi.errors import OperatorError
from hcall_abi.rules import hmc as rules
from swpks.cli import streams
from swpks.cli.hmc_target import OPTIONS, only_at_system, refuse_twice, refuse_two, store_folder
from swpks.hmc.names import ALSO_VERBS, LINES

_NO_LINE = ("-m", "--json", "--timeout")
"""Options of ours that are refused before a line."""
_MEANS_CONSOLE = frozenset({"--store", "-m"})


def carried_out(words: Sequence[str]) -> int | None:
    """Carry out a line, and return its exit status.

    Return None if the words after `swpks hmc` are no line.  OperatorError if no console is named.
    """
    if text := _usage(words):
        streams.say(text)
        return 0
    found = line_of(words)
    if found is None:
        refuse_twice(words)
        return None
    from swpks.hmc.line_client import line

    store, line_words = found
    return line(line_words, store)


def _usage(words: Sequence[str]) -> str:
    """Return the usage of a line if the words have --help, "" for anything else.

    This needs no console.
    """
    where, line = _split(list(words))
    if not line or line[0] not in LINES or "--help" not in line[1:]:
        return ""
    if line[0] in ALSO_VERBS and "--store" not in where:
        return ""  # it is a verb, and argparse prints its usage
    from swpks.hmc.usage import usage_of

    return usage_of(line[0])


def line_of(words: Sequence[str]) -> tuple[str, list[str]] | None:
    """Return the store of the console, and the words of a line.

    Return None for words that argparse parses.
    """
    where, line = _split(list(words))
    _refuse_ours(line)
    if not line or line[0] not in LINES:
        return None
    refuse_twice(words[: len(words) - len(line)])
    refuse_two(list(where))
    own = line[0] in ALSO_VERBS  # at a system these words are verbs, which argparse parses
    if own and any(word.partition("=")[0] in OPTIONS for word in (*where, *line)) and "--store" not in where:
        return None
    store = where.get("--store") or (None if where else str(store_folder() or ""))
    if store or not own:
        _refuse_store_behind(where, line)
    if store:
        _refuse_systems_own(line)
        return store, line
    if own:
        return None
    own_store = f"name its store before the line (or by SWPKS_HMC): `swpks hmc --store DIR {line[0]}...`"
    message = f"{line[0]} is a line of the management console: {own_store}"
    raise OperatorError(rules.HMC_TARGET, message, advised=True)


def _refuse_store_behind(where: Mapping[str, str], line: Sequence[str]) -> None:
    """Raise OperatorError with the right order if --store stands behind a line's words, which lack it."""
    at = next((n for n, word in enumerate(line) if word.partition("=")[0] == "--store"), None)
    if at is None:
        return
    _, equals, value = line[at].partition("=")
    behind = line[at + 1 :]
    if not equals:
        value, behind = (behind[0], behind[1:]) if behind else ("DIR", [])
    own = where.get("--store", value)
    right = shlex.join(("swpks", "hmc", "--store", own, *line[:at], *behind))
    message = f"--store stands before the line: `{right}`"
    raise OperatorError(rules.HMC_TARGET, message, advised=True)


def _refuse_systems_own(line: Sequence[str]) -> None:
    """Raise OperatorError for options that only a system accepts.

    The usage of the line would not explain these options.
    """
    names = [word.partition("=")[0] for word in line[1:]]
    returns = ("-o", "return") in pairwise(line)
    if line[0] in ALSO_VERBS and ("--sealed" in names or returns):
        raise OperatorError(rules.HMC_TARGET, only_at_system(line[0]), advised=True)


def _refuse_ours(words: Sequence[str]) -> None:
    """Raise OperatorError if our options -m, --json or --timeout stand before a line."""
    given = list[str]()
    rest = list(words)
    while rest and (name := rest[0].partition("=")[0]) in (*OPTIONS, *_NO_LINE):
        valued = name != "--json" and "=" not in rest[0]
        given.append(name)
        rest = rest[2 if valued else 1 :]
    ours = [name for name in given if name in _NO_LINE]
    if not ours or not rest or rest[0] not in LINES:
        return
    line = rest[0]
    if line in ALSO_VERBS and not _MEANS_CONSOLE.intersection(word.partition("=")[0] for word in words):
        return  # a verb at a system
    text = f"a line has no {ours[0]}: it prints the output of the real console"
    if ours[0] == "-m":
        text = f"-m stands behind {line}: swpks hmc {line} -m SYS ..."
    raise OperatorError(rules.LINE_OPTION, text)


def _split(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """Return the target options at the beginning, and the other words."""
    where: dict[str, str] = {}
    while words and words[0].partition("=")[0] in OPTIONS:
        name, given, value = words.pop(0).partition("=")
        if not given:
            if not words:
                return where, []
            value = words.pop(0)
        where[name] = value
    return where, words
