"""A conformance case: one statement of the contract, and the code that tries it on an implementation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from fnmatch import fnmatchcase
from typing import Generic, NamedTuple, TypeVar

from hcall_abi.rules.rule import Rule

S = TypeVar("S")


class Deviation(Exception):
    """The implementation did something that the contract does not allow.

    `expected` and `came` are texts without a secret.
    """

    def __init__(self, expected: str, came: str) -> None:
        super().__init__(f"expected {expected}; came {came}")


class NotRun(Exception):
    """The case cannot be tried here; the text is the reason, and names the remedy where there is one."""


class RunStage(Enum):
    """The part of a run in which a case is tried; the value is its place in the order."""

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
    """One case; `run` raises Deviation or NotRun, and returns if the statement holds.

    `page` is a page with a heading, and `rule` the id of a rule, "" for a statement without one.  `before` is
    called ahead of the IPL for a case of that stage.
    """

    id: str
    page: str
    rule: str
    run: Callable[[S], None] = field(repr=False)
    stage: RunStage = RunStage.UNSET
    before: Callable[[S], None] | None = field(default=None, repr=False)

    @property
    def chapter(self) -> str:
        """The first part of the id."""
        return chapter_of(self.id)

    def chosen_by(self, pattern: str) -> bool:
        """Return whether a pattern of the shell, or the name of a chapter, selects this case."""
        return selects(pattern, self.id)


def chapter_of(case_id: str) -> str:
    """Return the chapter of a case, which is the first part of its id."""
    return case_id.partition(".")[0]


def selects(pattern: str, case_id: str) -> bool:
    """Return whether a pattern of the shell, or the name of a chapter, selects a case."""
    return chapter_of(case_id) == pattern or fnmatchcase(case_id, pattern)


def by_rule(
    case_id: str, rule: Rule, run: Callable[[S], None], stage: RunStage = RunStage.UNSET, page: str = ""
) -> ConformanceCase[S]:
    """Return a case that proves a rule; its page is that of the rule, or the given one."""
    return ConformanceCase(case_id, page or rule.page, rule.id, run, stage)


class Judgement(Enum):
    """The result of a case; the value is the word in every report."""

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
        """The first part of the id."""
        return chapter_of(self.id)

    @property
    def cites(self) -> str:
        """The page and, where there is one, the rule."""
        return f"{self.page}, rule {self.rule}" if self.rule else self.page


def expected_failures(findings: Iterable[Finding], patterns: Iterable[str]) -> list[Finding]:
    """Return the findings with the judgement changed where a pattern expects the failure."""
    known = list(patterns)
    return [_expected(each, known) for each in findings]


def _expected(finding: Finding, patterns: list[str]) -> Finding:
    if not any(selects(each, finding.id) for each in patterns):
        return finding
    # A case that was not run stays so: it shows neither the expected failure nor its end.
    changed = {Judgement.FAILED: Judgement.EXPECTED, Judgement.PASSED: Judgement.SURPRISE}
    return finding._replace(judgement=changed.get(finding.judgement, finding.judgement))
