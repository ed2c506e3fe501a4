"""The file of survivors: mutants that no test kills, each with the reason."""

import tomllib
from pathlib import Path
from typing import NamedTuple

from tools.mutants.sample import Mutant

FILE = Path(__file__).with_name("survivors.toml")


class Survivor(NamedTuple):
    """A row of the file.

    If `equivalent` is true, no test can distinguish the mutant from the code. Such a mutant is not in the
    score. Any other survivor is in the score as not killed.
    """

    key: tuple[str, ...]
    equivalent: bool
    reason: str


def read() -> dict[tuple[str, ...], Survivor]:
    """Return the rows of the file, by the key of the mutant."""
    rows = tomllib.loads(FILE.read_text("utf-8")).get("survivor", [])
    survivors = [Survivor(_key(row), row["equivalent"], row["reason"]) for row in rows]
    found = {each.key: each for each in survivors}
    # If a mutant had two rows, the second would hide the reason of the first.
    if len(found) != len(rows):
        raise SystemExit(f"{FILE.name} names a mutant twice")
    return found


def _key(row: dict[str, object]) -> tuple[str, ...]:
    names = ("file", "scope", "operator", "before", "after")
    return (*(str(row[name]) for name in names), str(row.get("nth", 1)))


def row_of(mutant: Mutant) -> str:
    """Return the text of a row for a new survivor; a person has to write its reason."""
    pairs = {
        "file": mutant.file,
        "scope": mutant.scope,
        "operator": mutant.operator,
        "before": mutant.before,
        "after": mutant.after,
    }
    lines = [f"{name} = {_quoted(value)}" for name, value in pairs.items()]
    if mutant.nth > 1:
        lines.append(f"nth = {mutant.nth}")
    return "\n".join(["[[survivor]]", *lines, "equivalent = false", 'reason = ""', ""])


def _quoted(text: str) -> str:
    return f"'{text}'" if "'" not in text else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
