"""The advice for a word that is at a wrong place of a command line: the form that is probably meant."""

from __future__ import annotations

import argparse
import re
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


def of_order(given: Sequence[str], verbs: Sequence[str]) -> str:
    """Return "; the partition is named first: ..." for `swpks lpar VERB NAME ...`, "" for other words."""
    first, *rest = [word for word in given[1:] if not word.startswith("-")] or [""]
    if given[:1] != ["lpar"] or len(rest) < 1 or first not in verbs or rest[0] in verbs:
        return ""
    return f"; the partition is named before the verb: swpks {' '.join(['lpar', rest[0], first, *rest[1:]])}"
