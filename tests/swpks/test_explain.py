"""`swpks explain` shows each thing that an error cites. For an unknown name it proposes the nearest names."""

from __future__ import annotations

import re

import pytest

from hcall_abi.calls import CALLS, Opcode
from hcall_abi.console import ATTRIBUTES
from hcall_abi.errors import OperatorError
from hcall_abi.frames import FrameType, GoodbyeReason, OpenStatus
from hcall_abi.messages import NO_NUMBER, OWN, message_number
from hcall_abi.policies import Policy
from hcall_abi.remedies import REMEDIES
from hcall_abi.rules.catalogue import RULES
from hcall_abi.statuses import Status, positional
from swpks.cli import pages, subjects
from swpks.cli.explain import explained
from swpks.cli.main import main
from swpks.cli.plain import inline, plain
from swpks.hmc.names import LINES
from tests.spec.markdown import ROOT, SPEC, anchors

WIDTH = 90
NOISE = re.compile(r"\]\(|\*\*|^#|^\||^```|`|^<!--|<a id", re.MULTILINE)
"""Marks of Markdown that a terminal does not show as such."""


@pytest.mark.parametrize("rule", RULES.values(), ids=list(RULES))
def test_every_rule_is_explained(rule) -> None:
    """The explanation of a rule has its id, sentence and page, and the text of its section without marks."""
    text = explained(rule.id, WIDTH)
    head, _, section = text.partition("\n\n")
    assert head.startswith(f"rule {rule.id}\n  {inline(rule.sentence)}\n  broken: {rule.fault.value} fault")
    assert head.endswith(f"page: {rule.page}")
    assert f"({rule.page})" in section.splitlines()[0]
    assert len(section.splitlines()) > 3
    assert NOISE.search(text) is None, NOISE.search(text)


@pytest.mark.parametrize("page", pages.names())
def test_every_page_is_shown(page: str) -> None:
    """Each page is shown whole by its name, without marks, wrapped at the width; code may be longer."""
    text = explained(page, WIDTH)
    prose = [line for line in text.splitlines() if not line.startswith("    ")]
    assert NOISE.search("\n".join(prose)) is None, NOISE.search("\n".join(prose))
    assert [line for line in prose if len(line) > WIDTH and " " in line.strip()] == []
    assert explained(page.removeprefix("spec/").removesuffix(".md"), WIDTH) == text


def test_every_heading_is_shown() -> None:
    """Each heading has the anchor that links between the pages use."""
    for page in pages.names():
        found = {section.anchor for section in pages.sections(page)}
        assert found == anchors(ROOT / page), page


def test_pages_are_those_of_the_contract() -> None:
    """`swpks explain` knows all pages of the contract, and docs/testing.md, which errors of fixtures name."""
    found = {f"spec/{page.relative_to(SPEC)}" for page in SPEC.rglob("*.md")}
    assert set(pages.names()) == found | {"docs/testing.md"}


@pytest.mark.parametrize("number", ["SWPK0701", "swpk0701", "HSCL8012", *OWN.values()])
def test_message_numbers(number: str) -> None:
    """A message number of swpks or of the real console is explained, in upper or lower case."""
    found = {rule.id for rule in RULES.values() if message_number(rule) == number.upper()}
    assert found
    text = explained(number, WIDTH)
    assert set(re.findall("^rule (.+)$", text, re.MULTILINE)) == found
    assert text.count(f"message number: {number.upper()}") == len(found)
    remedies = [inline(REMEDIES[each]) for each in found if each in REMEDIES]
    assert text.count("  remedy: ") == len(remedies)
    assert all(f"  remedy: {each}\n" in text for each in remedies)


def test_a_section_has_the_sections_below_it() -> None:
    """The text of a section includes its subsections, and ends at the next heading of the same rank."""
    text = explained("spec/service.md#ready", WIDTH)
    assert text.startswith("Ready (spec/service.md#ready)\n-----")
    assert "SIGTERM" not in text
    assert explained("service#ready", WIDTH) == explained("service.md#Ready", WIDTH) == text


@pytest.mark.parametrize("opcode", Opcode)
def test_a_call_is_found_by_its_names_and_numbers(opcode: Opcode) -> None:
    """A call is found by its name in the platform and in the log, and by its opcode in both notations.

    Each of them shows the whole page.
    """
    spec = CALLS[opcode]
    text = explained(spec.name, WIDTH)
    assert text.startswith(f"h-call {spec.name} (0x{opcode:X}, {opcode})\n  levels: ")
    assert text.endswith(f"\n\n{explained(f'spec/hcalls/{opcode.name.lower()}.md', WIDTH)}")
    for other in (
        opcode.name,
        opcode.name.lower(),
        hex(opcode),
        f"0x{opcode:X}",
        f"0x{opcode:08x}",
        str(opcode),
    ):
        assert explained(other, WIDTH) == text


@pytest.mark.parametrize("policy", Policy)
def test_a_policy_is_found_by_its_name_and_bit(policy: Policy) -> None:
    """A policy is found by its name, its mask and its bit number. The section shown has its row."""
    number = 31 - (policy.value.bit_length() - 1)
    text = explained(str(policy.name), WIDTH)
    assert text.startswith(
        f"policy {policy.name} (0x{policy:08X}, bit {number})\n  page: spec/policies.md#bits\n"
    )
    assert str(policy.name) in text.partition("-----")[2]
    for other in (str(policy.name).lower(), f"bit {number}"):
        assert explained(other, WIDTH) == text
    for number_of_it in (f"0x{policy:x}", str(policy.value), str(number)):
        assert text.splitlines()[0] in explained(number_of_it, WIDTH).splitlines()


def test_a_policy_word_has_its_bits() -> None:
    """For a policy word, only the bits that are set are shown, each with its sentence."""
    word = Policy.IMMUTABLE | Policy.WORLDREADABLE
    text = explained(f"0x{word:08X}", WIDTH)
    assert re.findall("^policy (\\w+) ", text, re.MULTILINE) == ["WORLDREADABLE", "IMMUTABLE"]
    assert "  once written it is not removed." in text
    assert text.count("page: spec/policies.md#bits") == 2
    assert not any(bit.name in text for bit in Policy if bit.name and not bit & word)
    assert "undefined" not in text
    with pytest.raises(OperatorError, match="the nearest are"):
        explained(str(word.value), WIDTH)


@pytest.mark.parametrize("policy", Policy)
def test_every_bit_of_a_policy_word_has_a_sentence(policy: Policy) -> None:
    """A word with a named and an undefined bit shows the policy with its sentence, then the undefined bit."""
    text = explained(f"0x{policy | 0x100:08x}", 1000)
    named, unnamed = text.split("\n\n")
    head, sentence, supported, calls, page = named.splitlines()
    assert head.startswith(f"policy {policy.name} (0x{policy:08X}, bit ")
    assert sentence.rstrip(")").endswith(".")
    assert [supported[:16], calls[:23], page] == [
        "  supported by: ", "  may be asked for in: ", "  page: spec/policies.md#bits"
    ]  # fmt: skip
    assert unnamed.startswith("undefined bits of a policy word (0x00000100, bit 23)\n")


def test_undefined_bits_are_numbered_from_the_most_significant() -> None:
    """Several undefined bits are shown in one line. The word may have the leading zeros of a register."""
    for word in ("0x80000101", "0x8000_0101", "0x0000000080000101"):
        assert "(0x80000101, bits 0, 23, 31)" in explained(word, WIDTH).splitlines()[0]


@pytest.mark.parametrize("short", ["0x436", "0x0A", "0x6000000", "0x1_0000_0002", "1610612736"])
def test_a_short_number_is_no_policy_word(short: str) -> None:
    """A number with fewer digits than a policy word, such as an unknown opcode, is not shown as a policy."""
    with pytest.raises(OperatorError, match="the nearest are"):
        explained(short, WIDTH)


@pytest.mark.parametrize("each", [*FrameType, *OpenStatus, *GoodbyeReason], ids=lambda each: each.name)
def test_names_of_the_data_channel(each: FrameType | OpenStatus | GoodbyeReason) -> None:
    """Frame types, statuses of OPEN and reasons of GOODBYE are found by name and by number."""
    kind = {FrameType: "frame", OpenStatus: "status of OPEN", GoodbyeReason: "reason of GOODBYE"}[type(each)]
    head = f"{kind} {each.name} ({each.value})"
    text = explained(each.name, WIDTH)
    assert head in text.splitlines()
    assert head in explained(str(each.value), WIDTH).splitlines()
    if text.startswith(head) and kind == "frame" and each is not FrameType.OPENED:
        assert f"(spec/protocol.md#{each.name.lower()})\n-----" in text


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_attributes_of_a_partition(name: str) -> None:
    """The explanation of an attribute shows its values."""
    text = " ".join(explained(name, WIDTH).split())
    assert text.startswith(
        f"attribute {name} {ATTRIBUTES[name].description} values: {ATTRIBUTES[name].values} "
    )
    assert "Attributes (spec/control.md#attributes)" in text


def test_a_number_of_several_tables() -> None:
    """If a number occurs in several tables, each meaning is shown once.

    Each has a name that leads to its section.
    """
    heads = [part.splitlines()[0] for part in explained("3", WIDTH).split("\n\n")]
    assert heads == [
        "status H_NOT_AVAILABLE (3)", "policy PWSET (0x10000000, bit 3)", "frame OPENED (3)",
        "status of OPEN NOT_ACTIVATED (3)", "reason of GOODBYE MIGRATED (3)",
    ]  # fmt: skip
    for head in heads:
        name = head.partition(" (")[0].rpartition(" ")[2]
        assert head in explained(name, WIDTH).splitlines()


def test_every_subject_is_found_by_every_spelling() -> None:
    """No subject occurs twice in the table, and each spelling of a subject finds it once."""
    heads = [each.head for each in subjects.subjects()]
    assert len(set(heads)) == len(heads)
    for each in subjects.subjects():
        for spelling in (each.name, *each.also, *each.numbers):
            assert subjects.found(spelling).count(each) == 1, spelling


def test_offered_names_are_explained() -> None:
    """Each word that completion offers is explained, and is offered once."""
    words = subjects.offered()
    assert len(set(words)) == len(words)
    for word in words:
        assert subjects.found(word) or {f"spec/{word}.md", f"{word}.md"} & set(pages.names()), word


@pytest.mark.parametrize(
    "name,nearest",
    [
        ("object.exist", "object.exists"),
        ("SWPK0799", "SWPK07"),
        ("spec/protocoll.md", "spec/protocol.md"),
        ("protocol#framig", "spec/protocol.md#framing"),
        ("H_AUTHORTY", "H_AUTHORITY"),
        ("H_PKS_READ_OBJEKT", "H_PKS_READ_OBJECT"),
        ("WORLDREADBLE", "WORLDREADABLE"),
        ("NOT_AUTHORIZED", "NOT_AUTHORISED"),
        ("hretrun", "HRETURN"),
        ("secure_bot", "secure_boot"),
        ("10", "-10 (H_AUTHORITY)"),
        ("-12", "-11 (H_PERMISSION)"),
        ("0x43D", "0x43C (H_PKS_CONFIRM_OBJECT_FLUSHED)"),
    ],
)
def test_an_unknown_name(name: str, nearest: str, capsys: pytest.CaptureFixture[str]) -> None:
    """For an unknown name the usage error is one line, with the nearest names."""
    assert main(["explain", name]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert "the nearest are " in output.err
    assert nearest in output.err.partition("the nearest are ")[2].partition(" [")[0]
    assert "rule explain.known" in output.err


@pytest.mark.parametrize("name", ["", "#", "../README.md", "/etc/passwd", NO_NUMBER, "\x1b[31m"])
def test_other_names_show_no_file(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A path never shows a file that is not one of the pages. An empty name shows the list of pages."""
    status = main(["explain", name])
    output = capsys.readouterr()
    assert (status == 0) == (name == "")
    assert "\x1b" not in output.err
    if name == "":
        assert output.out.split() == list(pages.names())


def test_text_without_marks() -> None:
    """Links, code, emphasis, lists, tables and code blocks are shown without marks."""
    markdown = (
        "# Head\n\nA [link with `code`](x.md#y) and **bold** *words*, `a_b*c` [x].\n\n"
        "- one\n  more\n- `--flag`\n\n| a | b |\n| --- | --- |\n| 1 | `2` |\n\n```sh\n$ run *\n```\n"
    )
    shown = [
        *("HEAD", "", "A link with code and bold words, a_b*c [x].", "", "- one more", "- --flag", ""),
        *("a  b", "1  2", "", "    $ run *"),
    ]
    assert plain(markdown, 80).split("\n") == shown


def test_a_wide_table_becomes_a_list() -> None:
    """A wide table becomes a list with the heads of its columns, wrapped at the width."""
    markdown = f"| name | meaning |\n| --- | --- |\n| x | {'long words ' * 10}|\n"
    lines = plain(markdown, 50).splitlines()
    assert lines[0] == "x"
    assert lines[1].startswith("    meaning: long words")
    assert max(map(len, lines)) <= 50


@pytest.mark.parametrize("status", Status)
def test_every_status_is_explained(status: Status) -> None:
    """The explanation of a status has its number, and each rule whose violation returns it."""
    text = explained(status.name.lower(), 100)
    assert text.startswith(f"status {status.name} ({status.value})\n  h-calls: ")
    answered = {rule.id for rule in RULES.values() if rule.answer is status}
    assert {each for each in answered if f"  {each}: " in text} == answered
    assert f"status {status.name} ({status.value})" in explained(str(status.value), 100).splitlines()
    if status < 0:
        register = f"0x{(1 << 64) + status:X}"
        assert explained(str(status.value), 100) == explained(register, 100) == text


@pytest.mark.parametrize("register", range(4, 13))
def test_a_positional_status_names_its_register(register: int) -> None:
    """The explanation of a positional status names the register of the wrong argument."""
    assert (
        f"  as the answer to a wrong argument: that of r{register}"
        in explained(positional(register).name, 100).splitlines()
    )


@pytest.mark.parametrize("words", [["-10"], ["--", "-10"], ["H_AUTHORITY"]])
def test_a_negative_number_is_no_option(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A negative number is accepted, with -- before it or without."""
    assert main(["explain", *words]) == 0
    assert capsys.readouterr().out.startswith("status H_AUTHORITY (-10)\n")


def test_the_page_and_the_help_have_the_same_examples(capsys: pytest.CaptureFixture[str]) -> None:
    """The page and the help have the same example names, and each of them is explained."""
    with pytest.raises(SystemExit):
        main(["explain", "--help"])
    shown = re.findall(r"^    swpks explain .*$", capsys.readouterr().out, re.MULTILINE)
    assert shown == re.findall(
        r"^    swpks explain .*$", (SPEC / "rules.md").read_text("utf-8"), re.MULTILINE
    )
    for line in shown:
        name, _, about = line.removeprefix("    swpks explain ").partition("  ")
        for each in [name, *re.findall(r"0x\w+|\b[A-Z_]{6,}\b|\b\d{4}\b", about)]:
            assert not each or explained(each, WIDTH)


@pytest.mark.parametrize("line", LINES)
def test_a_line_of_the_console_is_found(line: str) -> None:
    """The name of a console line shows its row in the table of lines."""
    text = explained(line, WIDTH)
    assert text.startswith(f"line {line}\n  options: ")
    assert text.endswith("page: spec/console.md#lines")
    assert "\\" not in text


def test_an_id_that_pages_cite() -> None:
    """The id of a choice or of a requirement shows its row."""
    text = explained("C-17", WIDTH)
    assert text.startswith("choice C-17\n  r5 of READ with H_AUTHORITY")
    assert text.endswith("page: spec/choices.md")
    assert explained("r-08", WIDTH).startswith("requirement R-08\n  built\n  A write never overwrites")


@pytest.mark.parametrize("status", [each for each in Status if each < 0])
def test_a_status_as_a_c_program_prints_it(status: Status) -> None:
    """A negative status is found by its 32 bits too, in hexadecimal or decimal; it is no policy word."""
    for text in (hex(status & 0xFFFFFFFF), str(status & 0xFFFFFFFF)):
        assert explained(text, WIDTH).startswith(f"status {status.name} ({status.value})\n")


def test_a_folder_and_a_page_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    """A folder of pages is its index.  A page of docs/ is in the source folder, and the error says so."""
    for name in ("spec/hcalls", "hcalls/"):
        assert explained(name, WIDTH) == explained("spec/hcalls/index.md", WIDTH)
    assert main(["explain", "docs/kernel.md"]) == 2
    assert "pages of spec/ alone, and those of docs/ are in the source folder" in capsys.readouterr().err
