"""The tables of docs/conformance.md, made from the cases and the mutants.

python -m tests.conformance.page        write the tables into the page
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from hcall_abi.rules import hcalls, protocol, updates
from hcall_abi.rules.catalogue import rows_of
from swpks.conformance.client.cases import CLIENT_CASES
from swpks.conformance.server.chapters import all_cases
from swpks.conformance.server.connection import ServerPlace
from swpks.conformance.server.judged import Facts
from swpks.conformance.server.plan import facts_of
from tests.conformance.bad_clients import BAD_CLIENTS
from tests.conformance.judging import first_failure, server
from tests.conformance.judging_clients import caught
from tests.conformance.mutants import all_mutants
from tests.spec.markdown import ROOT

PAGE = ROOT / "docs/conformance.md"
Rows = Iterator[tuple[object, ...]]


def facts(level: str) -> Facts:
    """Return the facts about a new partition of a level."""
    with server(level) as partition:
        return facts_of(ServerPlace("in this process", dial=partition.locate))


def cases() -> Rows:
    """Yield a row for each chapter: cases on the oldest level, cases on the newest level, and mutants."""
    old, new = (Counter(each.chapter for each in all_cases(facts(level))) for level in ("FW950", "NEXT"))
    wrong = Counter(mutant.chapter for mutant in all_mutants())
    for chapter in new:
        yield f"`{chapter}`", old[chapter], new[chapter], wrong[chapter]
    yield "all", old.total(), new.total(), wrong.total()


def mutants() -> Rows:
    """Yield each mutant with the case that finds it."""
    for mutant in all_mutants():
        failure = first_failure(mutant)
        yield mutant.chapter, mutant.name, f"`{failure.id}`" if failure else "not found"


def client_cases() -> Rows:
    """Yield, for each chapter, the number of cases for a client, and the number of faulty clients."""
    found = Counter(each.chapter for each in CLIENT_CASES)
    wrong = Counter(bad.only.partition(".")[0] for bad in BAD_CLIENTS)
    for chapter, count in found.items():
        yield f"`{chapter}`", count, wrong[chapter]
    yield "all", found.total(), wrong.total()


def clients() -> Rows:
    """Yield each faulty client with the case that finds it."""
    for bad in BAD_CLIENTS:
        failure = caught(bad)
        yield bad.name, f"`{failure.id}`" if failure else "not found"


def unproven() -> Rows:
    """Yield the rules of frames, h-calls and updates that no case proves."""
    proven = {case.rule for case in all_cases(facts("NEXT"))}
    for module in (protocol, hcalls, updates):
        for rule in rows_of(module):
            if rule.id not in proven:
                yield f"`{rule.id}`", rule.sentence


def share() -> tuple[int, int]:
    """Return how many rules of frames, h-calls and updates a case proves, and how many exist."""
    every = [rule.id for module in (protocol, hcalls, updates) for rule in rows_of(module)]
    return len(every) - len(list(unproven())), len(every)


def shown(name: str) -> list[list[str]]:
    """Return the rows of a table in the page, without its head."""
    lines = _between(PAGE.read_text("utf-8"), name).strip().splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def _between(text: str, name: str) -> str:
    found = re.search(rf"<!-- table: {name} -->\n(.*?)<!-- end of table -->", text, re.DOTALL)
    assert found is not None, name
    return found[1]


def write() -> None:
    """Write every table into the page; their heads stay unchanged."""
    text = PAGE.read_text("utf-8")
    tables = {
        "cases": cases(),
        "client-cases": client_cases(),
        "mutants": mutants(),
        "clients": clients(),
        "unproven": unproven(),
    }
    for name, rows in tables.items():
        before = _between(text, name)
        head = "".join(before.splitlines(keepends=True)[:2])
        body = "".join(f"| {' | '.join(map(str, row))} |\n" for row in rows)
        text = text.replace(before, head + body)
    PAGE.write_text(text, "utf-8")


if __name__ == "__main__":
    write()
