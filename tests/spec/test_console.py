"""The page of the management console has the fields, limits and tables that the code has."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import get_args, get_type_hints

import msgspec
import pytest

from hcall_server.console import jobs, patience, profile_format, store
from hcall_server.console.console import DETACH_SECONDS, ConsoleSettings
from hcall_server.console.database import APPLICATION_ID, STORE_LEVEL, Database
from hcall_server.console.lines.line import LARGEST_RECORDS
from swpks.cli import hmc, hmc_console
from swpks.hmc import line_client, names, process, serving, views, where, wire
from tests.spec.markdown import SPEC, section, tables

PAGE = SPEC / "console.md"
TEXT = " ".join(PAGE.read_text("utf-8").split())


def cells(heading: str, head: str) -> dict[str, str]:
    """Return the first two cells of each row in a table under a heading, without code marks."""
    (found,) = (table for table in tables(section(PAGE, heading)) if table[0][0] == head)
    return {row[0].replace("`", ""): row[1].replace("`", "") for row in found[1:]}


def fields(struct: type[msgspec.Struct]) -> str:
    """Return the names of a struct's fields, in order."""
    return ", ".join(struct.__struct_fields__)


@pytest.mark.parametrize(
    "struct", [views.KnownSystemView, views.RemovedSystemView, views.StoredCopyView, views.JobView]
)
def test_answers_of_own_verbs(struct: type) -> None:
    """The page has every struct of an answer, with all its fields."""
    on_page = cells("Own verbs", "struct")[struct.__name__]
    assert on_page == ", ".join(struct.__annotations__)


def test_orders_of_the_wire() -> None:
    """The page has each verb that only this console has. It has no field that an order lacks."""
    on_page = cells("The wire", "verb of an order")
    assert set(on_page) == set(get_args(get_type_hints(wire.Order)["verb"]))
    operands = {each for row in on_page.values() for each in row.split(", ")} - {"-"}
    assert operands | {"verb"} == set(wire.Order.__struct_fields__)


def test_requests_and_messages_of_the_wire() -> None:
    """The page has every request that a command sends, and every message that it gets."""
    text = PAGE.read_text("utf-8")
    requests = set(re.findall(r"^\| `\{\"(\w+)\": [\[{]", text, re.MULTILINE))
    assert requests == set(wire.WireRequest.__struct_fields__)
    assert '`{"ask": {' + ", ".join(f'"{each}"' for each in wire.Forwarded.__struct_fields__) + "}}`" in text
    assert set(wire.FileReply.__struct_fields__) == {"content", "written", "writable", "error"}


def test_bounds_are_those_of_the_code() -> None:
    """The sizes, seconds and numbers in the sentences of the page are those of the code."""
    for words in (
        f"at most {wire.LONGEST_LINE >> 20} MiB. A connection",
        f"1 to {wire.MOST_WORDS} words",
        f"| commands served at once | {serving.MAX_CONNECTIONS};",
        f"| time for the request | {serving.REQUEST_SECONDS:.0f} seconds |",
        f"reads one message | {serving.SEND_SECONDS:.0f} seconds |",
        f"| time for one file | {serving.FILE_SECONDS:.0f} seconds |",
        f"At most {where.LONGEST_QUESTION} bytes, UTF-8",
        f"{where.MAX_QUESTIONS} connections are served at once, each for {where.SECONDS:.0f} seconds",
        f"under way have {serving.GRACE_SECONDS:.0f} seconds",
        f"waits at most {process.FIRST_SECONDS:.0f} seconds",
        f"within {DETACH_SECONDS:.0f} seconds, it is removed",
        f"again after {patience.FIRST_WAIT} s. Each further wait is twice as long",
        f"up to {patience.LONGEST_WAIT:.0f} s",
        f"the last {store.FINISHED_JOBS} finished jobs",
        f"A file that travels has at most {line_client.LARGEST_FILE >> 20} MiB",
        f"a file of records {LARGEST_RECORDS >> 20} MiB",
        f"at most {profile_format.MAX_PROFILE >> 20} MiB. Copies and sealed keys",
        f"the format level, {profile_format.PROFILE_LEVEL},",
        f"1 to 9999; {ConsoleSettings().keep} without it",
        f"`{APPLICATION_ID.to_bytes(4).decode()}`, `user_version` {STORE_LEVEL}",
    ):
        assert words in TEXT, words


def test_kinds_of_jobs() -> None:
    """The page has the values of `Job.state`, and the kinds of jobs."""
    assert get_args(jobs.JobState) == ("running", "done", "failed")
    assert "Long work is a job: `backup`, `recover`, `restore-profiles`, `migrate`, `restart`." in TEXT


def test_the_file_of_a_profile_backup() -> None:
    """The page has the objects in the file of a profile backup, with their fields."""
    structs: dict[str, type[msgspec.Struct]] = {
        "system": profile_format.SavedSystem,
        "partition": profile_format.SavedPartition,
        "key": profile_format.SavedKey,
    }
    assert cells("Profile backups", "object") == {name: fields(each) for name, each in structs.items()}


def test_the_tables_of_the_store(tmp_path: Path) -> None:
    """The page has every table with its columns, in order."""
    Database(tmp_path / "store").close()
    with closing(sqlite3.connect(tmp_path / "store")) as made:
        found = [row[0] for row in made.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        columns = {
            name: ", ".join(row[1] for row in made.execute(f"PRAGMA table_info({name})")) for name in found
        }
    del columns["sqlite_sequence"]
    assert cells("Store", "table") == columns


def test_own_verbs_and_lines_are_on_the_page() -> None:
    """The page has each verb that only a console has, and the name of each link."""
    commands = " ".join(cells("Own verbs", "command"))
    for verb in (*hmc_console.ORDER_VERBS, *hmc.OF_A_STORE):
        assert f"swpks hmc {verb}" in commands, verb
    for name in names.LINES:
        assert f"`{name}`" in TEXT, name
