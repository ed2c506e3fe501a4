"""The state folder: entries are durable before any confirmation, links are refused, losses are reported."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from hcall_abi.errors import OperatorError
from hcall_abi.rules import storage as rules
from hcall_server import files
from hcall_server.control_channel.metrics import exposition
from hcall_server.nvram import NvramError
from hcall_server.service.settings import PartitionSettings, Settings
from hcall_server.service.state import State
from tests.service.folder import assembled

SETTINGS = Settings(partition=(PartitionSettings.of("a", 8),))


class Disk:
    """The entries that survive a power cut: their folders were synced after they were made."""

    def __init__(self) -> None:
        self.durable: set[Path] = set()
        self.fsync = os.fsync

    def synced(self, descriptor: int) -> None:
        """Record each fsync."""
        self.fsync(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.is_dir():
            self.durable |= set(path.iterdir())


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """The entries that are durable from now on."""
    made = Disk()
    monkeypatch.setattr(os, "fsync", made.synced)
    return made


def test_every_new_entry_is_durable_once_nvram_is_open(tmp_path: Path, disk: Disk) -> None:
    """R-21: When NVRAM is open, every new folder and file is durable, in the state and above it."""
    folder = tmp_path / "above" / "further" / "state"
    with assembled(folder, SETTINGS):
        nvram = folder / "service-processor"
        made = {folder.parent.parent, folder.parent, folder, *folder.iterdir(), *nvram.iterdir()}
        made |= {folder / "anchor-card" / "anchor-card", folder / "access-keys" / "a.key"}
        # SQLite itself makes this log durable.
        made.discard(folder / "service-processor" / "nvram.sqlite-wal")
        assert made - disk.durable == set()
        assert {path.name for path in made} >= {"lock", "run", "nvram.sqlite", "nvram.sqlite-mark"}


def test_an_entry_is_durable_before_the_next_one_below_it(tmp_path: Path, disk: Disk, monkeypatch) -> None:
    """R-21: A folder is durable before anything is made in it."""
    made: list[Path] = []
    mkdir = Path.mkdir

    def watched(path: Path, *arguments, **options) -> None:
        assert set(made) <= disk.durable, "the folder above must be durable first"
        mkdir(path, *arguments, **options)
        made.append(path)

    monkeypatch.setattr(Path, "mkdir", watched)
    folder = tmp_path / "above" / "further" / "state"
    State(folder).close()
    assert made == [folder.parent.parent, folder.parent, folder, folder / "run", folder / "access-keys"]


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_start_that_was_killed_is_made_up_for(tmp_path: Path, disk: Disk, depth: int) -> None:
    """R-21: A start also makes the folders durable that an earlier start made before it was killed."""
    folder = tmp_path / "above" / "further" / "state"
    killed = [folder.parent.parent, folder.parent, folder][:depth]
    for each in killed:
        each.mkdir()
    State(folder).close()
    assert {killed[-1], folder, folder / "lock"} <= disk.durable


def test_a_card_that_was_written_before_a_kill_is_made_durable(tmp_path: Path, disk: Disk) -> None:
    """R-21: A kill may have come between the last write of the card and its sync. A start makes up for it."""
    folder = tmp_path / "state"
    with assembled(folder, SETTINGS):
        pass
    disk.durable.clear()
    with assembled(folder, SETTINGS):
        assert folder / "anchor-card" / "anchor-card" in disk.durable


def test_a_folder_that_may_not_be_read_is_synced_with_the_system(tmp_path: Path, monkeypatch) -> None:
    """R-21: A folder of mode 0300 can't be opened for fsync, so its whole file system is synced."""
    synced: list[bool] = []
    opened = os.open

    def refuse(path, flags, *arguments, **options):
        if path == tmp_path and flags & os.O_DIRECTORY:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, flags, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(os, "sync", lambda: synced.append(True))
    files.make_folder(tmp_path / "state")
    assert synced == [True]


# Links

NVRAM = "service-processor/nvram.sqlite"
LINKS = (
    *("lock", "run", "access-keys", "anchor-card", "service-processor", "tpm"),
    *(NVRAM, f"{NVRAM}-wal", f"{NVRAM}-mark"),
)


def look(target: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return mode, time and content of a file, or of all files in a folder."""
    found = {}
    for path in [target, *target.rglob("*")]:
        kept = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(target))] = kept.st_mode, kept.st_mtime_ns, content
    return found


def moved_away(path: Path, elsewhere: Path) -> Path:
    """Move a file or folder, make it accessible to others, and leave a link to it."""
    path.rename(elsewhere)
    elsewhere.chmod(0o755 if elsewhere.is_dir() else 0o644)
    path.symlink_to(elsewhere)
    return elsewhere


def refused(folder: Path) -> str:
    """Return the message of a start that is refused because of a link."""
    with pytest.raises(OperatorError) as caught, assembled(folder, SETTINGS):
        pass
    assert caught.value.rule is rules.STATE_LINK
    return caught.value.message


@pytest.mark.parametrize("name", LINKS)
def test_a_link_in_the_state_is_refused(tmp_path: Path, name: str) -> None:
    """R-02: If a part of the state is a link, the error names link and target. The target stays as it is."""
    folder = tmp_path / "state"
    with assembled(folder, SETTINGS):
        (folder / "service-processor" / "nvram.sqlite-wal").rename(tmp_path / "log")
    (tmp_path / "log").rename(folder / "service-processor" / "nvram.sqlite-wal")
    target = moved_away(folder / name, tmp_path / "elsewhere")
    before = look(target)
    assert refused(folder) == f"{folder / name} is a symbolic link to {target}"
    assert look(target) == before


def test_a_link_in_the_place_of_the_traces_is_refused(tmp_path: Path) -> None:
    """R-02: The folder of traces may be missing at a start, but it may not be a link."""
    folder, target = tmp_path / "state", tmp_path / "elsewhere"
    with assembled(folder, SETTINGS):
        pass
    (folder / "traces").symlink_to(target)
    assert refused(folder) == f"{folder / 'traces'} is a symbolic link to {target}"
    assert not target.exists()


@pytest.mark.parametrize("content", ["nothing", "state", "other things", "no folder"])
def test_a_state_that_is_a_link_is_refused(tmp_path: Path, content: str) -> None:
    """R-02: A state that is a link is refused. Nothing is made in the target, and its mode stays."""
    target = tmp_path / "elsewhere"
    if content == "state":
        State(target).close()
    elif content != "no folder":
        target.mkdir()
    if content == "other things":
        (target / "letter").touch()
    if target.exists():
        target.chmod(0o755)
    (tmp_path / "state").symlink_to(target)
    before = look(target) if target.exists() else None
    assert refused(tmp_path / "state") == f"{tmp_path / 'state'} is a symbolic link to {target}"
    assert (look(target) if target.exists() else None) == before


def test_a_link_above_the_state_is_permitted(tmp_path: Path) -> None:
    """A folder above the state may be a link: that is the operator's layout, as /tmp on a Mac."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    State(tmp_path / "link" / "state").close()
    assert (tmp_path / "disk" / "state" / "lock").is_file()


# Removed while the server runs


LOSSES: dict[str, Callable[[Path], object]] = {
    "state deleted": shutil.rmtree,
    "state renamed": lambda folder: folder.rename(folder.with_name("elsewhere")),
    "state linked": lambda folder: moved_away(folder, folder.with_name("elsewhere")),
    "lock deleted": lambda folder: (folder / "lock").unlink(),
    "card deleted": lambda folder: (folder / "anchor-card" / "anchor-card").unlink(),
    "card folder renamed": lambda folder: (folder / "anchor-card").rename(folder / "card"),
    "database deleted": lambda folder: (folder / "service-processor" / "nvram.sqlite").unlink(),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
async def test_no_flush_succeeds_without_what_a_start_needs(tmp_path: Path, loss) -> None:
    """R-20, R-23: If state, lock, card or NVRAM was removed, the flush fails.

    Health and metrics report it.
    """
    folder = tmp_path / "state"
    with assembled(folder, SETTINGS) as machine:
        assert await machine.encryptor.flush()
        loss(folder)
        machine.encryptor.changed(machine.system.find("a"))
        assert not await machine.encryptor.flush()
        health = machine.encryptor.health
        assert not health.ok
        assert str(folder) in str(health.last_error)
        figures = exposition(machine).splitlines()
        assert {b"swpks_nvram_ok 0.0", b"swpks_nvram_failures_total 1.0"} <= set(figures)
        with pytest.raises(NvramError) as caught:
            machine.nvram.inner.commit({})
        assert caught.value.rule is rules.NVRAM_PLACE


async def test_what_nobody_needs_at_the_next_start_may_go(tmp_path: Path) -> None:
    """A flush succeeds without the folder of the sockets, because each start makes it again."""
    folder = tmp_path / "state"
    with assembled(folder, SETTINGS) as machine:
        (folder / "run").rmdir()
        machine.encryptor.changed(machine.system.find("a"))
        assert await machine.encryptor.flush()
