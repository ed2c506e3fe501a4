"""The list of cases: ids, pages, rules, and how many cases run without an IPL (R-80)."""

from __future__ import annotations

from collections import Counter

import pytest

from hcall_abi.calls import Opcode
from hcall_abi.levels import KEYSTORE_LEVELS
from hcall_abi.rules.catalogue import RULES
from swpks.conformance.case import ConformanceCase, Judgement, NotRun, RunStage
from swpks.conformance.server.answers import Returned, checked
from swpks.conformance.server.chapters import all_cases, arguments
from swpks.conformance.server.connection import ServerPlace
from swpks.conformance.server.draft import Draft
from swpks.conformance.server.judged import Judged
from tests.conformance.judging import findings, server
from tests.conformance.page import PAGE, cases, client_cases, facts, share, shown, unproven
from tests.guest import Guest, make_partition
from tests.spec.markdown import ROOT, anchors


@pytest.mark.parametrize("level", ["FW950", "FW1030", "NEXT"])
def test_every_case_has_an_id_of_its_own(level: str) -> None:
    """No two cases have the same id."""
    counted = Counter(case.id for case in all_cases(facts(level)))
    assert [each for each, count in counted.items() if count > 1] == []


def test_every_case_cites_a_page_and_a_rule_that_exist() -> None:
    """R-80: the page and the rule that a case cites exist."""
    cases = all_cases(facts("NEXT"))
    assert {case.rule for case in cases} - {""} <= set(RULES)
    for page in sorted({case.page for case in cases}):
        path, _, heading = page.partition("#")
        assert (ROOT / path).is_file(), page
        assert not heading or heading in anchors(ROOT / path), page


@pytest.mark.parametrize("level", KEYSTORE_LEVELS)
def test_most_cases_run_without_an_ipl(level: str) -> None:
    """At least 80 % of the cases of a level can run without `--ipl`."""
    stages = Counter(case.stage for case in all_cases(facts(level)))
    assert stages[RunStage.IPL] <= 0.2 * stages.total()


def test_there_are_several_hundred_cases() -> None:
    """The oldest level has hundreds of cases, the newest one more than a thousand."""
    assert len(all_cases(facts("FW950"))) > 800
    assert len(all_cases(facts("NEXT"))) > 1400


class _Engine(Judged):
    """A `Judged` that executes its calls in an engine, which reports the rule of each refusal."""

    def call(self, draft: Draft) -> Returned:
        frame = draft.frame(1)
        self.guest = Guest(make_partition("NEXT"))
        calls = self.guest._calls
        return checked(draft, frame, calls.execute(frame))


def argument_cases() -> list[ConformanceCase[Judged]]:
    """Return the cases of wrong arguments on the newest level."""
    return list(arguments.cases(facts("NEXT")))


def test_the_rule_of_a_wrong_argument_is_the_one_that_the_server_reports() -> None:
    """For a wrong argument, the judge names the same rule as the log of a right server."""
    judged = _Engine(ServerPlace("nowhere"), facts("NEXT"))
    wrong = []
    for case in argument_cases():
        case.run(judged)
        reported = judged.guest.refusals[-1].rule.id
        if reported != case.rule:
            wrong.append((case.id, case.rule, reported))
    assert wrong == []


def test_a_call_that_the_partition_does_not_have_is_a_reason_and_no_failure() -> None:
    """If the level lacks a call, or signed updates are off, its cases are not run.

    The report gives the reason.
    """
    judged = Judged(ServerPlace("nowhere"), facts("FW950"))
    with pytest.raises(NotRun, match="FW950 has no WRAP_OBJECT"):
        judged.demand(Opcode.WRAP_OBJECT)


def test_no_report_shows_a_secret() -> None:
    """No reason and no dialogue shows a password or object data of the judge."""
    with server() as partition:
        found = list(findings(partition, "passwords", "objects", "wrapping"))
    assert all(each.judgement is Judgement.PASSED for each in found)
    with server("FW1110") as partition:
        # The facts are those of NEXT and the partition has FW1110, so many cases fail.
        judged = Judged(ServerPlace("x", dial=partition.locate), facts("NEXT"))
        judged.write(b"label", b"canary in the data").expect(0)
        judged.passwords[3] = b"canary of a password"
        judged.read(b"label").expect(-10)
        judged.close()
    shown = "\n".join([*judged.dialogue, repr(judged), repr(judged.place)])
    assert "canary" not in shown


def test_the_page_has_the_cases_of_every_chapter() -> None:
    """docs/conformance.md counts the cases of each chapter, and lists the rules that no case proves."""
    assert shown("cases") == [[str(cell) for cell in row] for row in cases()]
    assert shown("client-cases") == [[str(cell) for cell in row] for row in client_cases()]
    assert shown("unproven") == [[str(cell) for cell in row] for row in unproven()]
    proven, every = share()
    assert f"{proven} of the {every} rules" in PAGE.read_text("utf-8")


def test_a_busy_answer_is_repeated_with_its_token() -> None:
    """A right server may answer busy now and then.

    The judge repeats the call with the token (rule call.busy).
    """
    faults = ["READ_OBJECT=H_BUSY,times=3", "WRAP_OBJECT=H_LONG_BUSY_ORDER_1_MSEC,times=3"]
    with server() as partition:
        partition.set_faults(*faults)
        found = list(findings(partition, "objects.written-is-read-unset", "wrapping.size"))
    assert [each.judgement for each in found] == [Judgement.PASSED] * 2
