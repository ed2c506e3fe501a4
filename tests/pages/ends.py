"""Each page begins in a new folder, and leaves no process at its end. The functions here check that."""

import sys
from pathlib import Path

from tests.spec.markdown import ROOT, Session

HEAD = (". .venv/bin/activate", 'cd "$(mktemp -d)"')
"""The first commands of a page: pages share names of folders, so each page begins in an empty one."""
END = "kill $(jobs -p); wait"
"""The last command of a page that starts servers."""

LEFT = r"""
own=$(cut -d ' ' -f 6 /proc/$$/stat)
for place in /proc/[0-9]*; do
    read -r line 2>/dev/null <$place/stat || continue
    set -- ${line##*) }
    if [ "$4" = "$own" ] && [ "$1" != Z ] && [ "${place#/proc/}" != $$ ]; then
        echo "${place#/proc/} $(tr '\0' ' ' <$place/cmdline)"
    fi
done 2>/dev/null
""".strip()
"""Prints each other process of the shell's kernel session: `run` gives the shell one of its own.

An orphan is in it as well.  Bash reads the files itself: a program of its own would be in the list.
"""


def begins(steps: Session) -> bool:
    """Return whether a page begins in an empty folder.

    kernel.md first stores the place of the repository; compatibility.md has its own environment.
    """
    before = {*HEAD, "repository=$PWD"} - {HEAD[-1]}
    first = next((command for command in steps.commands if command not in before), "")
    return first == HEAD[-1]


def ends(steps: Session) -> bool:
    """Return whether a page ends its servers. A page without servers has nothing to end."""
    started = any(command.endswith("&") for command in steps.commands)
    return steps.commands[-1] == END or not started


def with_end(steps: Session, then: str, last: str) -> Session:
    """Return a page with one more command before its end, and a list of processes after it.

    That list must be empty.
    """
    at = len(steps.commands) - (steps.commands[-1] == END)
    commands, shown, typed = list(steps.commands), list(steps.shown), list(steps.typed)
    for place, command, output in ((at, then or ":", last), (len(commands) + 1, LEFT, "")):
        commands.insert(place, command)
        shown.insert(place, output)
        typed.insert(place, "")
    return steps._replace(commands=commands, shown=shown, typed=typed)


def repository(folder: Path) -> Path:
    """Make a folder with the parts of this repository that pages use, and the environment of this test."""
    folder.mkdir()
    for name in ("docs", "tools"):
        folder.joinpath(name).symlink_to(ROOT / name)
    if Path(sys.prefix, "bin", "activate").exists():
        folder.joinpath(".venv").symlink_to(sys.prefix)
    else:  # without a virtual environment, the interpreter is already on the path
        folder.joinpath(".venv", "bin").mkdir(parents=True)
        folder.joinpath(".venv", "bin", "activate").touch()
    return folder
