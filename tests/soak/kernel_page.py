"""docs/kernel.md from its first command to its last: kernels are fetched and built, and guests boot them."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.pages.ends import repository, with_end
from tests.pages.sessions import follow
from tests.spec.markdown import ROOT, Session, whole

PAGE = ROOT / "docs" / "kernel.md"
SECONDS = 3600
"""Longest time of the page: on two busy cores, a build takes about ten minutes."""
INSTALL = "apt-get install "


def walk() -> dict[str, int]:
    """Run the page; return the figures."""
    return walk_of(PAGE, SECONDS)


def walk_of(page: Path, seconds: float) -> dict[str, int]:
    """Run a page in one shell, and compare all outputs; return the figures.

    The folder is on disk: a kernel's source and build take two gigabytes.
    """
    steps = whole(page)
    with tempfile.TemporaryDirectory(prefix="swpks-page-") as folder:
        commands = [f"export TMPDIR={folder}", *(checked(command) for command in steps.commands)]
        all_steps = steps._replace(commands=commands, shown=["", *steps.shown], typed=["", *steps.typed])
        follow(repository(Path(folder, "repository")), with_end(all_steps, "", ""), seconds=seconds)
    return {"commands": len(steps.commands), "typed into guests": len(steps.guest), "boots": boots(steps)}


def checked(command: str) -> str:
    """Return a command of the page. For a command that installs packages, return one that checks them.

    `make soak` installs the packages (tools/debian-packages) if it has the right to do so.
    """
    if not command.startswith(INSTALL):
        return command
    return f"dpkg --status {command.removeprefix(INSTALL)} | grep '^Status' | grep -v 'install ok installed'"


def boots(steps: Session) -> int:
    """Return the number of guests that a session starts."""
    return sum(command.startswith("swpks qemu ") for command in steps.commands)
