"""The advice for a word that is at a wrong place of a command line: the form that is probably meant."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Sequence


def of_unknown(options: argparse.Namespace, unknown: Sequence[str]) -> str:
    """Return the right form for unknown words of a command, as text that begins with "; "; "" for none."""
    verb, word = getattr(options, "verb", None), unknown[-1]
    if options.command == "lpar" and verb == "update":
        file = "" if word.startswith("-") else f" {word}"
        # A wrong option without a file has its own advice.
        return f"; the file of a signed update is given by --auth{file}" if file else ""
    if options.command == "serve" and not unknown[0].startswith("-"):
        name = options.partition[-1] if options.partition else ""
        if name and ":" not in str(name) and re.fullmatch("[0-9]+", unknown[0]):
            return f"; the size is part of the value: --partition {name}:{unknown[0]}"
        return f"; the state folder is given by --state {unknown[0]}, a partition by --partition NAME:KBYTES"
    return ""


_POWER = {"start": "on", "stop": "off", "boot": "on", "shutdown": "off", "on": "on", "off": "off"}
_IPL = ("restart", "reboot", "reset")
_NAME_FIRST = {"power": ("on", "off"), "trace": ("on", "off")}
_TARGETS = ("--store", "--state", "--socket", "--timeout", "-m")


def of_verb(given: Sequence[str]) -> str:
    """Return "; did you mean ..." for words of `swpks hmc` in the form of other tools, or ""."""
    where, verb, operands = _split(given[1:])
    name = shlex.quote(operands[0]) if operands else "NAME"
    right = ""
    if operands and operands[0] in _NAME_FIRST.get(verb, ()) and len(operands) > 1:
        right = f"{verb} {shlex.quote(operands[1])} {operands[0]}"
    elif verb in _POWER:
        right = f"power {name} {_POWER[verb]}"
    elif verb in _IPL:
        right = f"ipl {name}"
    elif verb == "restore" and len(operands) > 1:
        # A copy names its partition, so the verb has no operand for it.
        right = f"restore {shlex.quote(operands[-1])}"
    return f"; did you mean `{' '.join(filter(None, ('swpks hmc', where, right)))}`?" if right else ""


def _split(words: Sequence[str]) -> tuple[str, str, list[str]]:
    """Return the options of the target as text, the verb, and its operands."""
    where, plain = list[str](), list[str]()
    rest = iter(words)
    for word in rest:
        if not word.startswith("-"):
            plain.append(word)
        elif word.partition("=")[0] in _TARGETS:
            where += [word] if "=" in word else [word, *filter(None, [next(rest, None)])]
    return shlex.join(where), plain[0] if plain else "", plain[1:]


def of_order(given: Sequence[str], verbs: Sequence[str]) -> str:
    """Return "; the partition is named first: ..." for `swpks lpar VERB NAME ...`, "" for other words."""
    first, *rest = [word for word in given[1:] if not word.startswith("-")] or [""]
    if given[:1] != ["lpar"] or len(rest) < 1 or first not in verbs or rest[0] in verbs:
        return ""
    return f"; the partition is named before the verb: swpks {' '.join(['lpar', rest[0], first, *rest[1:]])}"
