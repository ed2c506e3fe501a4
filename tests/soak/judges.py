"""The judge of servers in full: every level with all cases, and every wrong server with all chapters."""

from __future__ import annotations

from collections import Counter

from hcall_abi.levels import KEYSTORE_LEVELS
from swpks.conformance.case import Judgement
from tests.conformance.judging import findings, server
from tests.conformance.mutants import all_mutants


def all_levels() -> dict[str, int]:
    """Judge a right server of each level with a keystore; return the number of passed cases by level."""
    passed = {}
    for name, level in KEYSTORE_LEVELS.items():
        with server(name, level.max_kbytes) as partition:
            found = list(findings(partition))
        assert [each for each in found if each.judgement is Judgement.FAILED] == []
        passed[f"{name}: cases passed"] = sum(each.judgement is Judgement.PASSED for each in found)
    return passed


def all_chapters(scale: float) -> dict[str, int]:
    """Judge wrong servers by all chapters; return how many each chapter has found.

    At scale 1 these are all wrong servers, at a smaller scale a part of them.
    """
    mutants = all_mutants()
    counts = Counter[str]()
    for mutant in mutants[:: max(1, round(1 / scale))]:
        with server() as partition:
            failed = (
                each for each in findings(partition, mutant=mutant) if each.judgement is Judgement.FAILED
            )
            found = next(failed, None)
            failed.close()
        assert found is not None, mutant.name
        counts[f"found by {found.chapter}"] += 1
    return {"mutants": counts.total(), **counts}
