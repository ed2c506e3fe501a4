"""The manual pages: correct mdoc, complete, readable, and found by man."""

from __future__ import annotations

import re
import shutil
import subprocess
from datetime import datetime
from pathlib import Path

import pytest

from hcall_abi.frames import FrameType, GoodbyeReason
from hcall_server.machine.limits import Limits
from hcall_server.service.config import PARTITION_FIELDS, SETTINGS_FIELDS, read_config
from swpks.cli.main import COMMANDS, whole_parser
from swpks.cli.manual.collected import manual
from swpks.cli.manual.inline import inline, plain
from swpks.cli.manual.markdown import section_of, shown
from swpks.cli.manual.mdoc import argument, escaped, filled
from swpks.cli.manual.prose import EDITION, FACTS
from swpks.cli.manual.protocol import for_manual
from swpks.cli.words import Command, tree
from tests.debian.reporting import needed
from tests.spec.markdown import ROOT, SPEC

TREE = tree(whole_parser())
NAMES = {
    *("man1/swpks.1", "man5/swpks.toml.5", "man5/swpks-frames.5", "man7/swpks.7"),
    *(f"man1/swpks-{name}.1" for name in COMMANDS),
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation that has the manual pages alone."""
    prefix = tmp_path_factory.mktemp("prefix")
    for place, text in manual().items():
        (prefix / place).parent.mkdir(parents=True, exist_ok=True)
        (prefix / place).write_text(text, "utf-8")
    (prefix / "bin").mkdir()
    return prefix


@pytest.fixture(scope="module")
def pages(installed: Path) -> dict[str, str]:
    """Each page by its name, as a reader sees it: blanks and lines are single blanks."""
    return {name: " ".join(rendered(installed / "share/man" / name).split()) for name in NAMES}


def run(*words: object, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command of Debian; return its status and output."""
    name = str(words[0])
    program = needed(name, shutil.which(name))
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", **more}
    command = [program, *map(str, words[1:])]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30, env=environment)


def rendered(page: Path) -> str:
    """Return the text of a page, without the backspaces of bold and underlined characters."""
    done = run("mandoc", "-Tutf8", page)
    assert (done.returncode, done.stderr) == (0, "")
    return re.sub(".\b", "", done.stdout)


def test_each_command_has_a_page() -> None:
    """There is a page for each command, for the files, for the frames, and an overview; and no other."""
    assert {place.removeprefix("share/man/") for place in manual()} == NAMES
    assert FACTS.keys() <= COMMANDS.keys()


def test_mandoc_warns_of_nothing(installed: Path) -> None:
    """Every page is correct mdoc: mandoc has no warning and no error."""
    done = run("mandoc", "-Tlint", "-W", "warning", *sorted(installed.glob("share/man/*/*")))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_mandoc_sees_a_mistake(tmp_path: Path) -> None:
    """The check above can fail: a page with a wrong macro has a warning."""
    page = tmp_path / "swpks.1"
    page.write_text(manual()["share/man/man1/swpks.1"].replace(".Sh DESCRIPTION", ".Sx"), "utf-8")
    assert run("mandoc", "-Tlint", "-W", "warning", page).returncode != 0


@pytest.mark.parametrize("command", TREE.commands, ids=COMMANDS)
def test_every_word_of_the_parser_is_in_its_page(command: Command, pages: dict[str, str]) -> None:
    """A page has each option, operand, choice and verb of its command, and what the help says about it."""
    text = pages[f"man1/swpks-{command.path[-1]}.1"]
    for each in command.all():
        assert f" {each.path[-1]} " in text
        for given in (*each.options, *each.operands):
            words = [*given.names, *given.choices, *([] if given.of_line else [given.value])]
            assert [word for word in words if word not in text] == [], each.path
            assert " ".join(plain(given.about).split()) in text
    for section in ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "SEE ALSO"):
        assert f" {section} " in text


def test_every_verb_has_a_heading(installed: Path) -> None:
    """Each verb and each line of the console is a subsection of the page of its command."""
    for command in TREE.commands:
        text = rendered(installed / f"share/man/man1/swpks-{command.path[-1]}.1")
        headings = re.findall(r"^   (\S+)$", text, re.MULTILINE)
        assert set(headings) >= {each.path[-1] for each in command.commands}


def test_a_synopsis_marks_what_is_optional(pages: dict[str, str]) -> None:
    """A synopsis has brackets around optional words, and dots behind words that can be repeated."""
    assert "swpks qemu --partition NAME[:KBYTES] --kernel FILE [--initrd FILE]" in pages["man1/swpks-qemu.1"]
    assert "[--listen tcp:HOST:PORT ...]" in pages["man1/swpks-serve.1"]
    assert "swpks lpar NAME read [--os-label COMPONENT:NAME]" in pages["man1/swpks-lpar.1"]
    assert "swpks hmc set NAME ATTRIBUTE=VALUE ..." in pages["man1/swpks-hmc.1"]
    assert "no verb of the console removes these files" in pages["man1/swpks-hmc.1"]
    assert "Of the options above it has only --json, --store." in pages["man1/swpks-hmc.1"]


def test_the_file_and_the_frames_are_described(pages: dict[str, str]) -> None:
    """Section 5 has each field of the configuration, each frame, and each reason of GOODBYE."""
    fields = {*SETTINGS_FIELDS, *PARTITION_FIELDS, *Limits.__dataclass_fields__}
    assert [each for each in fields if each not in pages["man5/swpks.toml.5"]] == []
    assert "flush_delay_ms = 50.0 0 to 60000: how long a change waits" in pages["man5/swpks.toml.5"]
    dead = (
        "see below",
        "see the",
        'see "',
        "hcall_abi",
        "vectors/",
        "see tags",
        "see framing",
        "under versions",
    )
    for page in ("man5/swpks.toml.5", "man5/swpks-frames.5"):
        assert [words for words in dead if words in pages[page]] == []
    frames = pages["man5/swpks-frames.5"]
    assert [each.name for each in (*FrameType, *GoodbyeReason) if each.name not in frames] == []
    assert "48 1 + n name the server's name, for people" in frames
    assert "In C, the header swpks/pks.h has each frame" in frames
    assert "tag see section TAGS" in frames
    assert "in the one case of section VERSIONS" in frames


def test_a_sentence_that_the_page_has_lost_is_found() -> None:
    """A sentence that the manual replaces, and that the page of the protocol has no more, is an error."""
    page = (SPEC / "protocol.md").read_text("utf-8")
    assert "see below" not in for_manual(page)
    with pytest.raises(LookupError, match="0 times"):
        for_manual(page.replace("1 to 6, see below", "1 to 6"))


def test_headings_are_no_typos(installed: Path) -> None:
    """mandoc takes no heading for a misspelt one of its own."""
    done = run("mandoc", "-Tlint", "-W", "all", *sorted(installed.glob("share/man/*/*")))
    assert "operating system explicitly specified" in done.stdout  # all messages are there
    assert "typo" not in done.stdout


def test_the_example_of_the_file_can_be_read(installed: Path, tmp_path: Path) -> None:
    """The example of swpks.toml(5) is a configuration with two partitions."""
    text = rendered(installed / "share/man/man5/swpks.toml.5")
    example = re.search(r"^EXAMPLES\n.*?\n\n(.*?)^SEE ALSO", text, re.MULTILINE | re.DOTALL)
    assert example is not None
    file = tmp_path / "swpks.toml"
    file.write_text(example[1], "utf-8")
    assert [each.name for each in read_config(file).partition] == ["lpar1", "lpar2"]


def test_the_overview_names_every_page(pages: dict[str, str]) -> None:
    """The overview and swpks(1) refer to each command; the overview has each page of the contract."""
    for page in ("man1/swpks.1", "man7/swpks.7"):
        assert [name for name in COMMANDS if f"swpks-{name}(1)" not in pages[page]] == []
    contract = {each.relative_to(SPEC).as_posix().removesuffix(".md") for each in SPEC.glob("*.md")}
    assert [
        name for name in contract - {"README"} if f"swpks explain {name} " not in pages["man7/swpks.7"]
    ] == []


def test_nothing_of_markdown_or_roff_is_left(pages: dict[str, str]) -> None:
    """A reader sees no mark of either language."""
    marks = re.compile(r"\]\(|\*\*|<a |<!--|\\f|\\\[u|\\e|\.(?:Sh|Ss|Op|Ar|Fl|Xr|Pp|It|Nm|Ev|Pa)\b|T\{")
    for name, text in pages.items():
        assert marks.findall(text) == [], name


def test_references_lead_to_pages() -> None:
    """Each reference to a page of ours leads to one that exists."""
    known = {Path(name).name.rpartition(".")[::2] for name in NAMES}
    found = {
        match
        for text in manual().values()
        for match in re.findall(r"^\.Xr (swpks\S*) (\d)", text, re.MULTILINE)
    }
    assert found <= known
    assert len(found) > len(COMMANDS)


def test_man_finds_the_pages(installed: Path) -> None:
    """`man` finds share/man beside a bin that is on the path, as in a virtual environment."""
    path = f"{installed / 'bin'}:/usr/bin:/bin"
    for words, page in ((["swpks"], "man1/swpks.1"), (["5", "swpks.toml"], "man5/swpks.toml.5")):
        done = run("man", "-w", *words, PATH=path, HOME=str(installed))
        assert done.stdout.splitlines() == [str(installed / "share/man" / page)], done.stderr


def test_the_date_is_that_of_the_release() -> None:
    """Pages have a date that no build changes; once a release has a date, it is that one."""
    date = datetime.strptime(EDITION, "%B %d, %Y").date()
    found = re.search(r"^## \[\d[^\]]*\] - (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert found is not None
    assert found[1] in ("unreleased", date.isoformat())
    assert {re.findall(r"^\.Dd (.*)$", text, re.MULTILINE)[0] for text in manual().values()} == {EDITION}


def test_characters_of_roff_are_escaped() -> None:
    """Text that roff would change, or take for a request or a macro, is shown as it is."""
    assert escaped("a-b 'c' \\ é") == r"a\-b \(aqc\(aq \e \[u00E9]"
    assert list(filled(".hidden is a file. Next one.")) == [r"\&.hidden is a file.", "Next one."]
    assert argument("Ar") == r"\&Ar"
    assert argument("two words") == r'"\&two words"'


@pytest.mark.parametrize(
    "markdown,expected",
    [
        ("`a-b` and **c** and *d*", r"\fBa\-b\fR and \fBc\fR and \fId\fR"),
        ("see [the `x` page](y.md#z)", r"see the \fBx\fR page"),
        ("[service.md](service.md) has it", r"\fBswpks explain service\fR has it"),
        ("2 * 3 * 4", "2 * 3 * 4"),
        ('<a id="x"></a>text', "text"),
    ],
)
def test_running_text(markdown: str, expected: str) -> None:
    """Code, stress and links of Markdown become fonts and text."""
    assert inline(markdown) == expected


def test_blocks_of_a_page() -> None:
    """Headings, lists with continued items, code and tables of a page become mdoc."""
    page = (
        "## A b\n\nText.\nMore.\n\n- one\n  two\n- three\n\n```\n.x\n```\n\n"
        "| h | i |\n| - | - |\n| `a\\|b` | _ |\n\n### C\n\n1. d\n"
    )
    assert list(shown(page)) == [
        *(".Sh A B", "Text.", "More."),
        *(".Bl -bullet", ".It", "one two", ".It", "three", ".El"),
        *(".Bd -literal -offset indent", r"\&.x", ".Ed"),
        *(".Pp", ".TS", "lb lb", "l l.", "h\ti", "\\fBa|b\\fR\t\\&_", ".TE"),
        *(".Ss C", ".Bl -enum", ".It", "d", ".El"),
    ]


def test_a_section_of_a_page() -> None:
    """A section ends at the next heading of its rank; a comment in a block of code is no heading."""
    page = "# A\n\n## B\nx\n```\n# y\n```\n### C\nz\n## D\nw\n"
    assert section_of(page, "B") == "x\n```\n# y\n```\n### C\nz"
    assert section_of(page, "B", below=False) == "x\n```\n# y\n```"
    with pytest.raises(LookupError, match="'E'"):
        section_of(page, "E")
