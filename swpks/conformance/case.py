"""A conformance case: one statement of the contract, and the code that tries it on an implementation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from fnmatch import fnmatchcase
from typing import Generic, NamedTuple, TypeVar

from hcall_abi.rules.rule import Rule

S = TypeVar("S")

MOST_SILENCES = 3
"""If so many cases in a row get no answer, the others are not tried: each would cost the whole patience."""


class Deviation(Exception):
    """The implementation did something that the contract does not allow.

    `expected` and `came` are texts without a secret.
    """

    def __init__(self, expected: str, came: str) -> None:
        super().__init__(f"expected {expected}; came {came}")


class NotRun(Exception):
    """The case can't be tried here; the text is the reason, and the remedy if there is one."""


class RunStage(Enum):
    """The part of a run in which a case is tried; the values give the order of the parts."""

    UNSET = 1
    """No consumer has a password in this IPL."""
    SETTING = 2
    """Each consumer gets its password.  The cases of this stage run in their order."""
    SET = 3
    """Every consumer has a password."""
    IPL = 4
    """After an IPL of the partition, which `--ipl` makes possible."""


@dataclass(frozen=True)
class ConformanceCase(Generic[S]):
    """One case; `run` returns if the statement holds, and raises Deviation or NotRun if not.

    `page` is a page with a heading.  `rule` is the id of a rule, "" for a statement without a rule.  A case
    of stage IPL may have a first part, `before`, that runs before the IPL.
    """

    id: str
    page: str
    rule: str
    run: Callable[[S], None] = field(repr=False)
    stage: RunStage = RunStage.UNSET
    before: Callable[[S], None] | None = field(default=None, repr=False)

    @property
    def chapter(self) -> str:
        """The first part of the case's id."""
        return chapter_of(self.id)

    def chosen_by(self, pattern: str) -> bool:
        """Return whether a shell pattern or the name of a chapter selects this case."""
        return selects(pattern, self.id)


def chapter_of(case_id: str) -> str:
    """Return the chapter of a case: the first part of its id."""
    return case_id.partition(".")[0]


def selects(pattern: str, case_id: str) -> bool:
    """Return whether a shell pattern or the name of a chapter selects a case."""
    return chapter_of(case_id) == pattern or fnmatchcase(case_id, pattern)


def by_rule(
    case_id: str, rule: Rule, run: Callable[[S], None], stage: RunStage = RunStage.UNSET, page: str = ""
) -> ConformanceCase[S]:
    """Return a case that proves a rule; without `page`, the case cites the page of the rule."""
    return ConformanceCase(case_id, page or rule.page, rule.id, run, stage)


class Judgement(Enum):
    """The result of a case; the value is the word that all reports use."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_RUN = "not run"
    EXPECTED = "failed as expected"
    SURPRISE = "passed unexpectedly"


class Finding(NamedTuple):
    """The judgement of one case: the reason (empty if it passed), and the last lines of its dialogue."""

    id: str
    page: str
    rule: str
    judgement: Judgement
    reason: str = ""
    dialogue: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def chapter(self) -> str:
        """The first part of the case's id."""
        return chapter_of(self.id)

    @property
    def cites(self) -> str:
        """The page that the case proves, with the rule if the case has one."""
        return f"{self.page}, rule {self.rule}" if self.rule else self.page


def expected_failures(findings: Iterable[Finding], patterns: Iterable[str]) -> list[Finding]:
    """Return the findings, adjusted for the cases whose failure the operator expects.

    If a pattern selects a case, FAILED becomes EXPECTED and PASSED becomes SURPRISE.
    """
    known = list(patterns)
    return [_expected(each, known) for each in findings]


def _expected(finding: Finding, patterns: list[str]) -> Finding:
    if not any(selects(each, finding.id) for each in patterns):
        return finding
    # NOT_RUN stays NOT_RUN: such a case neither fails as expected nor passes.
    changed = {Judgement.FAILED: Judgement.EXPECTED, Judgement.PASSED: Judgement.SURPRISE}
    return finding._replace(judgement=changed.get(finding.judgement, finding.judgement))
