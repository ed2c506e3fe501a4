"""The report of a run as text, as JSON and as JUnit's XML."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from hcall_abi.counts import counted
from swpks.conformance.case import Finding, Judgement

FORMAT = 1
"""Version of the JSON report."""

# An unexpected pass counts as bad: the list of expected failures is out of date and would hide a later
# failure.
_BAD = (Judgement.FAILED, Judgement.SURPRISE)


class Suite(NamedTuple):
    """A whole run: one line about the judged implementation, and the findings in the order of the cases."""

    subject: str
    findings: Sequence[Finding]

    def count(self, judgement: Judgement) -> int:
        """Return the number of findings with a judgement."""
        return sum(each.judgement is judgement for each in self.findings)

    def status(self, *, require_all: bool = False) -> int:
        """Return the exit status.

        It is 1 if a case failed or passed unexpectedly.  With `require_all`, it is also 1 if a case was not
        run.  Otherwise it is 0.
        """
        bad = {*_BAD, Judgement.NOT_RUN} if require_all else {*_BAD}
        return int(any(each.judgement in bad for each in self.findings))


def as_text(suite: Suite) -> Iterator[str]:
    """Yield the lines of the report: failures with their dialogue, then cases not run, then the counts."""
    yield _plain(suite.subject)
    for finding in suite.findings:
        if finding.judgement in _BAD:
            yield from _failure(finding)
    # Cases that were not run are counted by reason: one missing option can cause hundreds, and single lines
    # would hide the failures.
    for reason, count in Counter(
        each.reason for each in suite.findings if each.judgement is Judgement.NOT_RUN
    ).items():
        yield _plain(f"not run, {_cases(count)}: {reason}")
    for chapter in dict.fromkeys(each.chapter for each in suite.findings):
        yield f"  {chapter:<14}{_counts([each for each in suite.findings if each.chapter == chapter])}"
    yield f"{_cases(len(suite.findings))}: {_counts(suite.findings)}"


def _cases(count: int) -> str:
    return counted(count, "case")


def _failure(finding: Finding) -> Iterator[str]:
    yield _plain(f"{finding.judgement.value.upper()} {finding.id}: {finding.reason}")
    yield f"    see {finding.cites}"
    yield from (f"    {_plain(line)}" for line in finding.dialogue)


def _plain(text: str) -> str:
    """Return a text with escapes in place of control characters, so that it can't control the terminal."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def _counts(findings: Sequence[Finding]) -> str:
    found = Counter(each.judgement for each in findings)
    return ", ".join(f"{found[each]} {each.value}" for each in Judgement if found[each])


def as_json(suite: Suite) -> bytes:
    """Return the report as JSON: `format`, `subject`, `counts` and `cases`."""
    report = {
        "format": FORMAT,
        "subject": suite.subject,
        "counts": {each.value: suite.count(each) for each in Judgement},
        "cases": [_record(each) for each in suite.findings],
    }
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def _record(finding: Finding) -> dict[str, object]:
    return {
        "id": finding.id,
        "chapter": finding.chapter,
        "page": finding.page,
        "rule": finding.rule,
        "result": finding.judgement.value,
        "reason": finding.reason,
        "dialogue": list(finding.dialogue),
        "seconds": round(finding.seconds, 6),
    }


def as_junit(suite: Suite) -> bytes:
    """Return the report as JUnit's XML: one suite for each chapter.

    An expected failure is reported as a skipped test, because JUnit has no such result.
    """
    root = ET.Element("testsuites", name="swpks conformance")
    for chapter in dict.fromkeys(each.chapter for each in suite.findings):
        inside = [each for each in suite.findings if each.chapter == chapter]
        failed = sum(each.judgement in _BAD for each in inside)
        skipped = sum(each.judgement in (Judgement.NOT_RUN, Judgement.EXPECTED) for each in inside)
        # `errors` is always 0: a server that answers nothing is a failure of the case, and no error of the
        # judge.
        numbers = {"tests": len(inside), "failures": failed, "errors": 0, "skipped": skipped}
        each_suite = ET.SubElement(
            root, "testsuite", attrib={"name": chapter, **{key: str(value) for key, value in numbers.items()}}
        )
        for finding in inside:
            _test(each_suite, finding)
    ET.indent(root)
    written: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return written + b"\n"


def _test(suite: ET.Element, finding: Finding) -> None:
    seconds = f"{finding.seconds:.6f}"
    test = ET.SubElement(suite, "testcase", classname=finding.chapter, name=finding.id, time=seconds)
    text = _xml_text("\n".join((finding.cites, *finding.dialogue)))
    if finding.judgement in _BAD:
        ET.SubElement(test, "failure", message=_xml_text(finding.reason)).text = text
    elif finding.judgement is not Judgement.PASSED:
        ET.SubElement(test, "skipped", message=_xml_text(finding.reason))


def _xml_text(text: str) -> str:
    """Return a text with U+FFFD in place of unprintable characters, which XML 1.0 may not allow."""
    # A name in HELLO comes from the judged server, and may hold any character.
    return "".join(
        each if each in "\n\t" or each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text
    )
