"""Rules of a state folder: its owner and modes, the anchor card, access keys, and NVRAM in a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hcall_abi.rules.rule import Rule
from hcall_server.nvram.sqlite import SqliteNvram
from hcall_server.service.settings import PartitionSettings, Settings
from hcall_server.service.state import State
from tests.rules.breaking import Break, Breaks, refused
from tests.service.folder import assembled

SETTINGS = Settings(partition=(PartitionSettings.of("a", 8),))
CARD, KEY, NVRAM = "anchor-card/anchor-card", "access-keys/a.key", "nvram.sqlite"


def started(folder: Path) -> None:
    """Make a machine of a state folder."""
    with assembled(folder, SETTINGS):
        pass


def start(damage: Callable[[Path], object]) -> Break:
    """A start on a state that was in good order before this was done to it."""

    def broken(folder: Path) -> Rule:
        started(folder / "state")
        damage(folder / "state")
        return refused(started, folder / "state")

    return broken


def first_start(prepare: Callable[[Path], object]) -> Break:
    """A first start on a folder in which this was done before."""

    def broken(folder: Path) -> Rule:
        prepare(folder)
        return refused(started, folder)

    return broken


def write(path: str, content: bytes) -> Callable[[Path], object]:
    """Write a file of the state."""
    return lambda state: (state / path).write_bytes(content)


def mode(path: str, number: int) -> Callable[[Path], object]:
    """Change the mode of a file or folder."""
    return lambda state: (state / path).chmod(number)


def _served_twice(folder: Path) -> Rule:
    with assembled(folder, SETTINGS):
        return refused(State, folder)


def _below_a_file(folder: Path) -> Rule:
    (folder / "file").touch()
    return refused(State, folder / "file" / "state")


def _not_a_file(state: Path) -> None:
    (state / KEY).unlink()
    (state / KEY).mkdir()


def _key_cannot_be_made(state: Path) -> None:
    (state / KEY).unlink()
    (state / f"{KEY}.new").mkdir()


def _older_nvram(folder: Path) -> Rule:
    nvram = SqliteNvram(folder / NVRAM)
    nvram.commit({"a": b"1"})
    nvram.close()
    (folder / NVRAM).unlink()
    return refused(SqliteNvram, folder / NVRAM)


def _nvram_taken_away(folder: Path) -> Rule:
    nvram = SqliteNvram(folder / NVRAM)
    (folder / NVRAM).unlink()
    try:
        return refused(nvram.commit, {"a": b"1"})
    finally:
        nvram.close()


def _linked(state: Path) -> None:
    (state / CARD).rename(state / "card")
    (state / CARD).symlink_to(state / "card")


BREAKS: Breaks = {
    "state.owner": _served_twice,
    "state.writable": _below_a_file,
    "state.empty": first_start(lambda folder: (folder / "letter").touch()),
    "state.link": start(_linked),
    "state.private": start(mode(".", 0o755)),
    "access-key.file": start(_not_a_file),
    "access-key.mode": start(mode(KEY, 0o644)),
    "access-key.content": start(write(KEY, b"no key")),
    "access-key.stored": start(_key_cannot_be_made),
    "card.mode": start(mode(CARD, 0o640)),
    "card.whole": start(write(CARD, b"no card")),
    "nvram.file": start(write(NVRAM, b"no database" * 1000)),
    "nvram.mark": start(write(f"{NVRAM}-mark", b"no mark")),
    "nvram.age": _older_nvram,
    "nvram.place": _nvram_taken_away,
    "nvram.writable": lambda folder: refused(SqliteNvram, folder / "nowhere" / NVRAM),
}
