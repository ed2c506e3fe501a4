"""Tables in the pages agree with the code: the generated tables, and the tables of bytes."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import construct as cs
import pytest

from hcall_abi import efi, frames, structures
from hcall_abi.calls import CALLS, Opcode
from hcall_abi.statuses import Status, blamed_register
from hcall_server.hcalls.handlers import HANDLERS
from hcall_server.wrapping import formats
from tests.abi.sessions import TABLE
from tests.spec.markdown import ROOT, SPEC, anchors, section, tables, text_of


def test_generated_tables_are_fresh() -> None:
    """`tools/spec_tables.py --check` finds no page that differs from the code."""
    command = [sys.executable, str(ROOT / "tools" / "spec_tables.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "name,right,wrong",
    [
        ("policies.md", "0x40000000", "0x40000001"),
        ("root-key.md", "| state Recovery |", "| go on |"),
        ("root-key.md", "another TPM made the copy", "this TPM made the copy"),
        ("migration.md", "| PREPARED | e is the last e, and the", "| ABORTED | e is the last e, and the"),
        ("migration.md", "| FROZEN | in-doubt | ASK | console |", "| FROZEN | any | ASK | console |"),
        ("migration.md", "| 14 | OPEN | FORCE |", "| 14 | ABORTED | FORCE |"),
    ],
)
def test_drift_is_noticed(tmp_path: Path, name: str, right: str, wrong: str) -> None:
    """If a table was changed by hand, the check names its page."""
    page = (SPEC / name).read_text("utf-8")
    assert right in page
    (tmp_path / name).write_text(page.replace(right, wrong), "utf-8")
    code = (
        "import sys; sys.path.insert(0, 'tools'); import spec_tables, pathlib;"
        f"spec_tables.SPEC = pathlib.Path({str(tmp_path)!r}); spec_tables.ROOT = spec_tables.SPEC;"
        "sys.argv = ['x', '--check']; spec_tables.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 1
    assert name in done.stderr


# Tables of bytes

Row = tuple[int | None, int | None, str]


def described(con: Any, offset: int | None = 0, name: str = "") -> Iterator[Row]:
    """Yield offset, size and name of every field. If one depends on the bytes, it is None."""
    match con:
        case cs.Renamed():
            yield from described(con.subcon, offset, con.name)
        case cs.Struct():
            for inner in con.subcons:
                for row in described(inner, offset):
                    yield row
                    offset = None if row[1] is None or offset is None else offset + row[1]
        case cs.Check() | cs.Terminated.__class__():
            return
        case cs.Const() if not name:
            yield offset, con.sizeof(), "reserved"
        case _:
            yield offset, size_of(con), name


def size_of(con: Any) -> int | None:
    """Return the fixed size of a construct, or None if it has none."""
    try:
        return int(con.sizeof())
    except cs.SizeofError:
        return None


def printed(page: str, heading: str, number: int = 0) -> list[Row]:
    """Return the rows of a table of bytes in a page."""
    table = tables(section(SPEC / page, heading))[number]
    assert table[0][:3] == ["offset", "size", "field"]
    return [(number_or_none(row[0]), number_or_none(row[1]), row[2]) for row in table[1:]]


def number_or_none(cell: str) -> int | None:
    """Return a number, or None if the cell is no number."""
    return int(cell) if cell.isdigit() else None


LAYOUTS = [
    ("protocol.md", "Frame header", 0, frames.HEADER),
    ("protocol.md", "HELLO", 0, frames.HELLO),
    ("protocol.md", "OPEN", 0, frames.OPEN),
    ("protocol.md", "OPENED", 0, frames.OPENED),
    ("protocol.md", "HCALL", 0, frames.HCALL),
    ("protocol.md", "HCALL", 1, frames.SEGMENT),
    ("protocol.md", "HRETURN", 0, frames.HRETURN),
    ("protocol.md", "HRETURN", 1, frames.WRITE),
    ("protocol.md", "GOODBYE", 0, frames.GOODBYE),
    ("wrapped.md", "The object", 0, formats.WRAPPED_OBJECT),
    ("structures.md", "Config block", 0, structures.CONFIG_BLOCKS[3]),
    ("structures.md", "Authorization block", 0, structures.AUTH_BLOCK),
    ("structures.md", "Label", 0, structures.LABEL_HEADER),
    ("secure-boot-variables.md", "Payload", 0, efi.TIME),
    ("secure-boot-variables.md", "Payload", 1, efi.CERTIFICATE_PART),
    ("secure-boot-variables.md", "Signature lists", 0, efi.LIST_HEADER),
    ("secure-boot-variables.md", "Stored form", 0, efi.STORED_HEADER),
]


@pytest.mark.parametrize("page,heading,number,definition", LAYOUTS, ids=[f"{r[1]}-{r[2]}" for r in LAYOUTS])
def test_tables_of_bytes(page: str, heading: str, number: int, definition: Any) -> None:
    """Offset, size and name of every field are those of the definition, in its order."""
    table, rows = printed(page, heading, number), list(described(definition))
    if heading == "Label":
        # The table's last row is the bytes after the header. The definition of the header does not have it.
        assert table.pop() == (16, None, "name")
    assert [name for _, _, name in table] == [name for _, _, name in rows]
    assert table == [
        row if row[0] is not None else (at[0], *row[1:]) for row, at in zip(rows, table, strict=True)
    ]


@pytest.mark.parametrize("version", [1, 2])
def test_since_version_of_the_config_block(version: int) -> None:
    """In each version of the config block, the fields of later versions are reserved."""
    table = tables(section(SPEC / "structures.md", "Config block"))[0][1:]
    rows = list(described(structures.CONFIG_BLOCKS[version]))
    for cells, (_, _, name) in zip(table, rows, strict=True):
        assert (name == "reserved") == (int(cells[3]) > version or cells[2] == "reserved"), cells


def test_the_state_table() -> None:
    """The state table in protocol.md has the rows and conditions of the table in the session tests."""
    text = section(SPEC / "protocol.md", "States")
    rows = [tuple(row) for row in tables(text)[0][1:]]
    conditional = {
        ("greeted", "client", "OPEN", "a version that the server does not speak", "opening"),
        ("opening", "server", "OPENED", "status 0", "open"),
        ("opening", "server", "OPENED", "another status", "refused"),
    }
    plain = {
        (state.value, role.value, kind.name, "-", follows.value)
        for state, row in TABLE.items()
        for (role, kind), follows in row.items()
        if kind is not frames.FrameType.OPENED
    }
    assert sorted(rows) == sorted(plain | conditional)


def test_the_diagram_of_states() -> None:
    """The diagram has each row of the table: beside an arrow, or above the next state."""
    text = (SPEC / "protocol.md").read_text("utf-8").partition("state-diagram -->")[2].partition("<!--")[0]
    shown: list[tuple[str, ...]] = []
    waiting: list[tuple[str, ...]] = []
    state = ""
    for line in text.splitlines():
        if aside := re.fullmatch(r"  \|--- (\w+) from the (\w+)(?:, (.*))? --> (\w+)", line):
            shown.append((state, aside[2], aside[1], aside[3] or "-", aside[4]))
        elif down := re.fullmatch(r"  \|    (\w+) from the (\w+)(?:, (.*))?", line):
            waiting.append((state, down[2], down[1], down[3] or "-"))
        elif re.fullmatch(r"\w+", line):
            state = line
            shown += [(*row, state) for row in waiting]
            waiting = []
    rows = [tuple(row) for row in tables(section(SPEC / "protocol.md", "States"))[0][1:]]
    assert sorted(shown) == sorted(row for row in rows if row[2] != "GOODBYE")
    assert "GOODBYE from either end, in any state but closed --> closed" in text


def test_the_tags_of_frames() -> None:
    """The page says: the sender chooses the tag of OPEN and HCALL, and an answer repeats it.

    HELLO and GOODBYE have the tag 0.
    """
    rows = dict(tables(section(SPEC / "protocol.md", "Tags"))[0][1:])
    asks, answers = "chosen by the sender", "that of the oldest unanswered frame"
    assert rows == {
        "HELLO": "0",
        "OPEN": asks,
        "OPENED": answers,
        "HCALL": asks,
        "HRETURN": answers,
        "GOODBYE": "0",
    }


# Pages of the h-calls

HEADINGS = ["parameters", "results", "checks", "policies", "public-and-chosen"]


def checks(opcode: Opcode) -> list[Status]:
    """Return the statuses in a page's list of checks, in their order."""
    text = section(SPEC / "hcalls" / f"{opcode.name.lower()}.md", "Checks")
    return [Status[name] for name in re.findall(r"^\d+\. (H_\w+):", text, re.MULTILINE)]


@pytest.mark.parametrize("opcode", Opcode, ids=[opcode.name for opcode in Opcode])
def test_pages_of_the_hcalls(opcode: Opcode) -> None:
    """Each call has a page with its sections.

    Its list of checks begins with those of the registers, in order. Each has a status that the call may
    return.
    """
    path = SPEC / "hcalls" / f"{opcode.name.lower()}.md"
    assert set(HEADINGS) <= anchors(path)
    listed = checks(opcode)
    assert set(listed) <= CALLS[opcode].statuses
    positions = [register for status in listed if (register := blamed_register(status))]
    # GET_OBJECTLABELS checks its buffer length last, because the length depends on the result.
    if opcode is Opcode.GET_OBJECTLABELS:
        assert listed[-1] is Status.H_P4
    else:
        assert positions == sorted(positions)
        assert listed[: len(positions)] == [s for s in listed if blamed_register(s)]
    answered = "This version does not answer" not in text_of(path)
    assert answered == (opcode in HANDLERS)


def test_numbers_of_choices() -> None:
    """Each choice has an id, no number is missing, and pages cite no other id."""
    rows = [row for table in tables(text_of(SPEC / "choices.md")) for row in table[1:] if table[0][0] == "id"]
    keys = {row[0] for row in rows}
    letters, numbers = [*"ABCDEFGHIJKLMNOPQRSTUVWXYZ"], range(1, len(rows) - 25)
    assert keys == {f"C-{each}" for each in (*numbers, *letters)}
    # A row is never removed, because other documents cite its id.
    assert len(rows) == len(keys) >= 171
    assert all(len(row) == 3 and all(row) for row in rows)
    pages = [
        page for page in (*SPEC.rglob("*.md"), *(ROOT / "docs").glob("*.md")) if page.name != "choices.md"
    ]
    cited = {each for page in pages for each in re.findall(r"\bC-(?:\d+|[A-Z])\b", text_of(page))}
    assert cited <= keys
    assert len(cited) > 20
