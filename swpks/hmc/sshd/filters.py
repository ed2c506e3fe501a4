"""The filters of the door's shell: ordinary programs that read only their standard input.

Scripts pipe the output of a line into sed, grep and others.  Each of these names is a small script here.
It checks the words and runs the real program, or refuses.  Pure: `script` returns the text of such a script.
"""

# Why a table of permitted options
#
# GNU programs open files at more places than their operands: `grep -f`, `sort -T`, `wc --files0-from`,
# `tail --pid`, and `sed -i` are only some.  A list of forbidden options would miss the next one.  So a table
# has the options that a filter needs, and everything else is refused.  No option of the table names a file
# or a program.  `cut -f` names fields, and `grep -o` prints the matching part: both open nothing.
#
# The check and the program must read the words in the same way, or an operand could pass for the value of an
# option.  Three forms of GNU's parser are difficult:
#
#   - Bundles: `-nof` is `-n -o -f`.  The check reads a bundle letter by letter.  The rest of a bundle behind
#     an option with a value is that value; if the rest is empty, the next word is.
#   - Abbreviations: `--comp` can mean `--compress-program`.  The check takes whole names only.
#   - Order: GNU takes options behind operands, unless POSIXLY_CORRECT is set.  The check reads all words up
#     to `--`, and the program gets an environment without that variable.
#
# Old forms without a letter, such as `sort +1 -2` or `tail +5f`, are operands for the check.  The old form
# `-5c FILE` of head and tail is no bundle: its `c` is a unit and has no value, so FILE is an operand.  So a
# bundle that begins with a digit has only digits, or letters without a value.
#
# Why a script of bash: it needs 3 ms, a Python needs 20.  `#!/bin/bash -p` reads no BASH_ENV and imports no
# function from the environment, so the caller changes nothing in it.  The script uses only builtins.

from __future__ import annotations

import shlex
from dataclasses import dataclass

ENVIRONMENT = "LANG=C.UTF-8"
"""The whole environment of a filter."""
REFUSED = 2
"""Exit status of a refused filter, as of GNU's programs for a usage error of grep and sort."""
_DIGITS = "0123456789"
_ALWAYS = ("--help", "--version")


@dataclass(frozen=True)
class Filter:
    """The words that a program takes: letters and names of options, and the number of its operands."""

    flags: str = ""
    """Letters of options without a value."""
    valued: str = ""
    """Letters of options with a value."""
    names: tuple[str, ...] = ()
    """Long options without a value, or with an optional one behind `=`."""
    valued_names: tuple[str, ...] = ()
    """Long options with a value, behind `=` or in the next word."""
    operands: int = 0
    """Operands that are no files, such as the pattern of grep.  Further operands can only be `-`."""
    instead: tuple[str, ...] = ()
    """Options with a value that stands for the operands, such as `-e`."""
    first: tuple[str, ...] = ()
    """Words that stand before those of the caller."""


_LINES_OF = ("--quiet", "--silent", "--verbose", "--zero-terminated")
_ANY = 1 << 16
"""More operands than a command line has."""

FILTERS = {
    "cat": Filter(
        "AbeEnstTuv",
        names=(
            *("--show-all", "--number-nonblank", "--show-ends", "--number", "--squeeze-blank"),
            *("--show-tabs", "--show-nonprinting"),
        ),
    ),
    "cut": Filter(
        "nsz",
        "bcdf",
        ("--complement", "--only-delimited", "--zero-terminated"),
        ("--bytes", "--characters", "--delimiter", "--fields", "--output-delimiter"),
    ),
    "grep": Filter(
        f"EFGPivwxzcLlqsnoHhbaUT{_DIGITS}",
        "emABC",
        (
            *("--extended-regexp", "--fixed-strings", "--basic-regexp", "--perl-regexp", "--ignore-case"),
            *("--no-ignore-case", "--invert-match", "--word-regexp", "--line-regexp", "--null-data"),
            *("--count", "--files-without-match", "--files-with-matches", "--quiet", "--silent"),
            *("--no-messages", "--line-number", "--only-matching", "--with-filename", "--no-filename"),
            *("--byte-offset", "--text", "--binary", "--initial-tab", "--line-buffered"),
            *("--color", "--colour"),
        ),
        ("--regexp", "--max-count", "--after-context", "--before-context", "--context", "--binary-files"),
        operands=1,
        instead=("-e", "--regexp"),
    ),
    "head": Filter(f"qvz{_DIGITS}", "nc", _LINES_OF, ("--lines", "--bytes")),
    "sed": Filter(
        "nErsuz",
        "el",
        (
            *("--quiet", "--silent", "--regexp-extended", "--separate", "--unbuffered", "--null-data"),
            *("--posix", "--debug", "--sandbox"),
        ),
        ("--expression", "--line-length"),
        operands=1,
        instead=("-e", "--expression"),
        # GNU sed refuses the commands e, r, R, w and W, and the flags e and w, before it reads a line.
        first=("--sandbox",),
    ),
    "sleep": Filter(operands=_ANY),
    "sort": Filter(
        "bdfgiMhnrRVcCmsuz",
        "kt",
        (
            *("--ignore-leading-blanks", "--dictionary-order", "--ignore-case", "--general-numeric-sort"),
            *("--ignore-nonprinting", "--month-sort", "--human-numeric-sort", "--numeric-sort", "--reverse"),
            *("--random-sort", "--version-sort", "--check", "--merge", "--stable", "--unique"),
            "--zero-terminated",
        ),
        ("--key", "--field-separator", "--sort"),
    ),
    "tail": Filter(f"qvz{_DIGITS}", "nc", _LINES_OF, ("--lines", "--bytes")),
    "tr": Filter(
        "cCdst", names=("--complement", "--delete", "--squeeze-repeats", "--truncate-set1"), operands=2
    ),
    "wc": Filter("clmLw", names=("--bytes", "--chars", "--lines", "--max-line-length", "--words")),
}
"""The filters that check their words.  `echo` is one more: it takes any words, and opens nothing."""

NAMES = (*FILTERS, "echo")

_CHECK = r"""
set -f
refuse() {
    printf '%s: %s: the filters of this shell %s; see spec/console.md#the-shell\n' "$tool" "$1" "$2" >&2
    exit STATUS
}
words=("$@") operands=0 ended=
for ((at = 0; at < $#; at++)); do
    word=${words[at]}
    if [[ $ended || $word == - || $word != -* ]]; then
        others+=("$word")
    elif [[ $word == -- ]]; then
        ended=1
    elif [[ $word == --* ]]; then
        name=${word%%=*}
        if [[ " $valued_names " == *" $name "* ]]; then
            if [[ $word != *=* ]]; then ((at += 1)); fi
        elif [[ " $names " != *" $name "* ]]; then
            refuse "$name" 'take only options that open nothing, each with its whole name'
        fi
        if [[ " $instead " == *" $name "* ]]; then most=0; fi
    else
        for ((letter = 1; letter < ${#word}; letter++)); do
            option=${word:letter:1}
            if [[ $option != [a-zA-Z0-9] ]]; then
                refuse "$word" 'take only options that open nothing'
            elif [[ $valued == *"$option"* && $word != -[0-9]* ]]; then
                if ((letter + 1 == ${#word})); then ((at += 1)); fi
                letter=${#word}
            elif [[ $flags != *"$option"* ]]; then
                refuse "-$option" 'take only options that open nothing'
            fi
            if [[ " $instead " == *" -$option "* ]]; then most=0; fi
        done
    fi
done
for word in "${others[@]}"; do
    if ((operands++ >= most)) && [[ $word != - ]]; then
        refuse "$word" 'read standard input only: use a pipe'
    fi
done
""".replace("STATUS", str(REFUSED))


def script(name: str, program: str) -> str:
    """Return the text of the script of a filter; `program` is the path of the real program."""
    head = f"#!/bin/bash -p\n# {name} of the console's SSH door: it reads standard input alone.\n"
    row = FILTERS.get(name)
    first = "" if row is None else "".join(f" {word}" for word in row.first)
    run = f'exec /usr/bin/env -i {ENVIRONMENT} {shlex.quote(program)}{first} "$@"\n'
    return head + ("" if row is None else _values(name, row) + _CHECK) + run


def _values(name: str, row: Filter) -> str:
    values = {
        "tool": name,
        "flags": row.flags,
        "valued": row.valued,
        "names": " ".join((*row.names, *_ALWAYS)),
        "valued_names": " ".join(row.valued_names),
        "instead": " ".join(row.instead),
    }
    lines = [f"{key}={shlex.quote(value)}" for key, value in values.items()]
    return "\n".join([*lines, f"most={row.operands}", "others=()", ""])
