"""Faults that the soak has found in the storage, each as its smallest story."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from hcall_server.nvram.sqlite import SqliteNvram
from tests.soak.crash_states import lay_out
from tests.soak.disk import Disk
from tests.soak.nth import ROOT
from tests.soak.recording import NOTHING, Accident, build, events, recorded

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("not_measured")]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recorder."""
    return build(tmp_path_factory.mktemp("recorder"))


class Story:
    """Processes that use one NVRAM, one after the other, on a recorded disk."""

    def __init__(self, folder: Path, library: Path) -> None:
        self.folder, self.library = folder, library
        self.root, self.log = folder / "disk", folder / "recording"
        self.root.mkdir()

    def process(self, first: int, commits: int, end: str = "", accident: Accident = NOTHING) -> None:
        """Run a process; it may be killed or end because of the accident."""
        program = [sys.executable, "-m", "tests.soak.nvram_program"]
        given = map(str, (self.root / "nvram.sqlite", self.log, first, commits, end))
        with recorded(self.library, self.root, self.log, accident):
            done = subprocess.run([*program, *given], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == (-signal.SIGKILL if end == "die" else 0) or any(accident), done.stderr

    def judge(self, seed: int, states: int = 15) -> int:
        """Open NVRAM on crash states after each note; return the last number that was confirmed."""
        chance, confirmed = Random(seed), 0
        disk = Disk(chance)
        for number, event in enumerate(events(self.log)):
            if event.kind != "N":
                disk.apply(event)
                continue
            confirmed = event.note["confirmed"]
            for state in range(states):
                folder = self.folder / f"crash {number} {state}"
                folder.mkdir()
                lay_out(disk.crash(), folder)
                nvram = SqliteNvram(folder / "nvram.sqlite")
                found = int(nvram.load().get("system", b"0"))
                nvram.close()
                assert found >= confirmed, f"{found} is there, and {confirmed} was confirmed"
        return confirmed


def test_a_start_makes_durable_what_it_has_read(tmp_path: Path, library: Path) -> None:
    """R-21, R-22: a kill in place of the sync of the log, a start that reads it all the same, a power cut.

    The start confirmed what it had read, and noted it in the high-water mark. The power cut took it away,
    and the next start refused the file as an older copy.
    """
    story = Story(tmp_path, library)
    story.process(1, 3, "die")
    story.process(4, 0)
    assert story.judge(1) == 3, "the start has read what was not durable"


@pytest.mark.parametrize("nth", range(1, 3))
def test_a_folder_that_can_not_be_synced(tmp_path: Path, library: Path, nth: int) -> None:
    """R-21, R-23: SQLite ignores it, and a power cut took the whole log away with all that was confirmed."""
    story = Story(tmp_path, library)
    story.process(1, 1, "close")
    story.process(2, 2, accident=Accident(fail_folder_sync=nth))
    story.judge(nth)
