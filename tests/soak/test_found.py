"""Faults in the storage that the soak has found, each in its shortest form."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from hcall_server.console.database import Database
from hcall_server.nvram.mark import FileMark
from hcall_server.nvram.seam import NvramError
from hcall_server.nvram.sqlite import SqliteNvram
from tests.soak.console_program import rows
from tests.soak.crash_states import lay_out
from tests.soak.disk import Disk
from tests.soak.nth import ROOT
from tests.soak.nth_faults import SqliteFault
from tests.soak.nvram_program import TWIN, number_in
from tests.soak.recording import NOTHING, Accident, build, events, recorded

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("not_measured")]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library of the recorder."""
    return build(tmp_path_factory.mktemp("recorder"))


class Story:
    """Processes that use one NVRAM after the other, on a recorded disk; or one database of a console."""

    def __init__(self, folder: Path, library: Path, of: str = "nvram") -> None:
        self.folder, self.library = folder, library
        self.program, self.name = f"tests.soak.{of}_program", f"{of}.sqlite"
        self.root, self.log = folder / "disk", folder / "recording"
        self.root.mkdir()

    def process(self, first: int, commits: int, end: str = "", accident: Accident = NOTHING) -> None:
        """Run a process. An accident may kill it or end it."""
        program = [sys.executable, "-m", self.program]
        given = map(str, (self.root / self.name, self.log, first, commits, end))
        with recorded(self.library, self.root, self.log, accident):
            done = subprocess.run([*program, *given], cwd=ROOT, capture_output=True, text=True, check=False)
        expected = {"die": -signal.SIGKILL, "spoil": 1}.get(end.partition(" ")[0], 0)
        assert done.returncode == expected or any(accident), done.stderr

    def crashes(self, seed: int, states: int = 15) -> Iterator[tuple[Path, int]]:
        """Yield crash states, each with the last number that was confirmed before it."""
        disk, confirmed = Disk(Random(seed)), 0
        for number, event in enumerate(events(self.log)):
            if event.kind == "N":
                confirmed = event.note["confirmed"]
            else:
                disk.apply(event)
            for state in range(states if confirmed else 0):
                folder = self.folder / f"crash {number} {state}"
                folder.mkdir()
                lay_out(disk.crash(), folder)
                yield folder / self.name, confirmed

    def judge(self, seed: int) -> int:
        """Open NVRAM on crash states, and check that no confirmed number is lost; return the last one."""
        confirmed = 0
        for path, confirmed in self.crashes(seed, 8):
            nvram = SqliteNvram(path)
            records = nvram.load()
            nvram.close()
            found, twin = (int(records.get(name, b"0").strip(b".")) for name in ("system", TWIN))
            assert found == twin, f"half of a commit is there: {found} and {twin}"
            assert found >= confirmed, f"{found} is there, and {confirmed} was confirmed"
        return confirmed

    def judge_mark(self, seed: int) -> None:
        """Read the mark on crash states, and check that it has a slot with the last confirmed number."""
        for path, confirmed in self.crashes(seed):
            with closing(FileMark(path)) as mark:
                numbers = [found for each in mark.slots() if (found := number_in(each)) is not None]
            assert numbers, "no slot is readable"
            assert max(numbers) >= confirmed


def test_a_start_makes_durable_what_it_has_read(soak_folder: Path, library: Path) -> None:
    """R-21, R-22: Before a start confirms commits that it has read from the log, it makes them durable.

    Found: a kill came in place of the log's sync. A start then read the log and noted its last commit in
    the high-water mark. A power cut removed that commit, and the next start refused the file as older.
    """
    story = Story(soak_folder, library)
    story.process(1, 3, "die")
    story.process(4, 0)
    assert story.judge(1) == 3, "the start has read a commit that was not durable"


def test_a_start_does_not_trust_a_log_whose_sync_has_failed(soak_folder: Path, library: Path) -> None:
    """R-21, R-22: A start does not use a log whose sync has failed.

    Found: the start read the failed commit and merged it into the file. On the disk the log ended before that
    commit, so after a power cut the log hid the newer file.
    """
    story = Story(soak_folder, library)
    story.process(1, 1)
    story.process(2, 2, "spoil")
    story.process(4, 0)
    assert story.judge(1) == 3, "the start has read the commit that failed"


@pytest.mark.parametrize("accident", [NOTHING, Accident(kill=3), Accident(fail_sync=1)])
def test_a_power_cut_while_a_start_moves_a_log_whose_sync_has_failed(
    soak_folder: Path, library: Path, accident: Accident
) -> None:
    """R-21, R-22: A power cut during a start leaves no half of a commit whose sync had failed.

    Found: the start moved the failed commit from the log, which it could read, into the file. A power cut in
    the middle left a part of it in the file, and no such commit in the log on the disk. The start may itself
    be killed, or its own sync may fail.
    """
    story = Story(soak_folder, library)
    story.process(1, 2)
    story.process(3, 1, "spoil first")
    story.process(4, 0, accident=accident)
    story.process(4, 0)
    story.judge(1)


@pytest.mark.parametrize("nth", range(1, 3))
def test_a_folder_that_can_not_be_synced(soak_folder: Path, library: Path, nth: int) -> None:
    """R-21, R-23: If a folder can't be synced, a power cut removes no confirmed change.

    Found: SQLite ignores the error, so the whole log with confirmed changes was gone.
    """
    story = Story(soak_folder, library)
    story.process(1, 1, "close")
    story.process(2, 2, accident=Accident(fail_folder_sync=nth))
    story.judge(nth)


def test_a_start_keeps_a_slot_of_the_mark(soak_folder: Path, library: Path) -> None:
    """R-21: After a power cut, a start always finds a readable slot of the mark.

    Found: a killed server had not synced the newest slot, and a start wrote the other one. A power cut then
    left neither, and the next start was refused.
    """
    story = Story(soak_folder, library)
    story.process(1, 4, "mark")
    story.process(9, 4, "mark")
    story.judge_mark(1)


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_a_start_does_not_trust_a_mark_whose_sync_has_failed(
    soak_folder: Path, library: Path, failing: int
) -> None:
    """R-21: After a failed sync of the mark, a restart and a power cut, a slot of the mark is readable.

    Found: the second start synced the newest slot, which wrote nothing after the failed sync. It wrote the
    other slot, and a power cut left neither.
    """
    story = Story(soak_folder, library)
    story.process(1, 4, "mark")
    story.process(9, 4, "mark", Accident(fail_sync=failing))
    story.process(19, 4, "mark")
    story.judge_mark(1)


def test_the_mark_turns_to_a_slot_after_a_failed_sync(soak_folder: Path, library: Path) -> None:
    """R-21: If a sync of the mark fails while the server runs, a slot of the mark stays readable.

    Found: the next commit synced the same slot again, which wrote nothing after the failed sync. It turned to
    the other slot, and a power cut left neither.
    """
    story = Story(soak_folder, library)
    story.process(1, 6, "mark often", Accident(fail_sync=3))
    story.judge_mark(3)


@pytest.mark.parametrize("end,seed", [("die 1", 1), ("die 4", 1), ("spoil 1", 1), ("spoil 4", 2)])
def test_a_console_makes_durable_what_it_has_read(
    soak_folder: Path, library: Path, end: str, seed: int
) -> None:
    """R-21: Before a console answers from changes that it has read, it makes them durable.

    Found: the last sync of a change ends its journal. A kill came in its place, or it failed. The next
    console read the change, and after a power cut the journal on the disk undid it.
    """
    story = Story(soak_folder, library, "console")
    story.process(1, 2, "close")
    story.process(3, 1, end)
    story.process(4, 0)
    for path, confirmed in story.crashes(seed, 4):
        database = Database(path)
        found = rows(database)
        database.close()
        assert found >= confirmed, f"{found} is there, and {confirmed} was confirmed"


def test_a_commit_that_fails_right_after_its_begin(tmp_path: Path) -> None:
    """R-23: If a commit fails right after its begin, later commits still work.

    Found: the transaction was left open, and every later commit was refused.
    """
    fault = SqliteFault("SQLITE_IOERR", after=True)
    with fault.connections():
        nvram = SqliteNvram(tmp_path / "nvram.sqlite")
        with fault.armed(1), pytest.raises(NvramError):
            nvram.commit({"system": b"1"})
        nvram.commit({"system": b"2"})
        assert nvram.load() == {"system": b"2"}
        nvram.close()
