"""Recognises the folder of a system and that of a console, and finds the one that a wrong path meant.

A state has the parts of its system (spec/service.md#state), a store the console's database
(spec/console.md#store).  This module needs only the standard library.
"""

from __future__ import annotations

import os
from enum import Enum
from itertools import islice
from pathlib import Path

PARTS = ("service-processor", "anchor-card", "nvram.sqlite")
"""A state has one or more of these; the last one at its top, in the layout of an older release."""
DATABASE = "console.sqlite"
"""The file by which a folder is the store of a management console."""

ABOVE = 2
"""Folders above a wrong path that are searched: DIR/removed/tpm.1 is the deepest folder of a part."""
SEARCHED = 1000
"""Entries of a folder that are searched at most: the search only improves a message."""
NEAREST = 3
"""Most folders that a message names."""


class FolderKind(Enum):
    """The kinds of folders; the value is the option that takes one."""

    STATE = "--state"
    STORE = "--store"


def kind_of(folder: Path) -> FolderKind | None:
    """Return the kind of a folder; None for all else, and for a folder that cannot be read."""
    try:
        if (folder / DATABASE).is_file():
            return FolderKind.STORE
        return FolderKind.STATE if any((folder / name).exists() for name in PARTS) else None
    except (OSError, ValueError):
        return None


def has_part_folders(folder: Path) -> bool:
    """Return whether a folder has parts of a state as folders; a part itself has files of these names."""
    return any((folder / name).is_dir() for name in PARTS)


def outer_folder(inner: Path) -> tuple[Path, FolderKind] | None:
    """Return the state or the store that a path is inside of, with its kind; None for a path in neither."""
    # One sign of a state is not enough: a user may call a state `service-processor`, or have a file `lock`.
    for each in Path(os.path.realpath(inner)).parents:
        try:
            if (each / DATABASE).is_file():
                return each, FolderKind.STORE
            processor, card, nvram, lock = ((each / name).exists() for name in (*PARTS, "lock"))
            if sum((card, processor or nvram, lock)) > 1:
                return each, FolderKind.STATE
        except OSError:
            continue
    return None


def refusal_inside(inner: Path, kind: FolderKind) -> str:
    """Return why a folder of this kind is not made or used at a path inside of another one, "" if it may be.

    A system or a console that is there already may be used.
    """
    import shlex

    used = (inner / DATABASE).is_file() or _has_system(inner)
    if used or (found := outer_folder(inner)) is None:
        return ""
    outer, of = found
    shown = shlex.quote(_shown(outer))
    remedy = f"did you mean {kind.value} {shown}?" if kind is of else "choose a folder outside of it"
    return f"{inner} is inside of the {of.name.lower()} {shown}; {remedy}"


def near_folders(wrong: Path, kind: FolderKind) -> list[Path]:
    """Return the folders of this kind that a wrong path probably meant.

    They are above it, or in it, or beside it with a similar name.
    """
    path = wrong.absolute()
    if above := [each for each in path.parents[:ABOVE] if kind_of(each) is kind]:
        return above[:1]
    if inside := [each for each in _entries(path) if kind_of(each) is kind]:
        return inside[:NEAREST]
    from hcall_abi.near import near_names

    beside = {each.name: each for each in _entries(path.parent) if kind_of(each) is kind}
    return [beside[name] for name in near_names(path.name, beside, NEAREST) if name != path.name]


def question_of(wrong: Path, kind: FolderKind = FolderKind.STATE) -> str:
    """Return "; did you mean --state PATH?" with the folders that were probably meant, "" for none."""
    import shlex  # here, because only a refusal needs both

    from hcall_abi.near import did_you_mean

    near = (f"{kind.value} {shlex.quote(_shown(each))}" for each in near_folders(wrong, kind))
    question = did_you_mean(near)
    return question and f"; {question}"


def _has_system(folder: Path) -> bool:
    """Return whether a folder is a state whose start moves no files."""
    return (folder / "service-processor").is_dir() and not (folder / "nvram.sqlite").exists()


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(islice(folder.iterdir(), SEARCHED))
    except OSError:
        return []


def _shown(path: Path) -> str:
    """Return a path as a user in the working directory writes it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (OSError, ValueError):
        return str(path)


def nvram_on_etcd(state: Path) -> bool:
    """Return whether the server of a state has had its NVRAM on etcd: the high-water mark of it is there."""
    return (state / "service-processor" / "nvram.etcd-mark").exists()
