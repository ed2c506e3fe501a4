"""Doing what a page tells its reader to type."""

import os
import re
import subprocess
import sys
from pathlib import Path

SECONDS = 120
"""Longest time that a session may take, on a busy machine."""

ONLY_OURS = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": "-p swpks -p trio -p no:cacheprovider"}
"""The environment of a pytest that loads swpks and pytest-trio alone: loading all others takes a second."""
_MARK = "#next#"
_LINKED = "until swpks hmc {} systems 2>/dev/null >.linked && ! grep -q ' away ' .linked; do :; done"
"""The loop added after a console in the background: the reader waits until it is connected to its systems."""


def run(folder: Path, commands: list[str], then: str = "") -> list[str]:
    """Do the commands in one shell, as a reader would; return the output of each, and that of `then`.

    `then` is done at the end, while the servers of the session still run; they are ended afterwards.
    AssertionError if the shell has ended before: else the rest of a page would not be compared.
    """
    lines = ["trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT"]
    for number, command in enumerate(commands):
        lines += _awaited(command, f".ready{number}") if command.endswith("&") else [command]
        lines.append(f"echo '{_MARK}'")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SWPKS_")}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-c", "\n".join([*lines, then])], cwd=folder, env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    written = done.stdout.split(f"{_MARK}\n")
    assert len(written) == len(commands) + 1, (
        f"the shell ended in {commands[len(written) - 1]}\n{done.stdout}"
    )
    assert done.returncode == 0, done.stdout
    return written


def _awaited(command: str, pipe: str) -> list[str]:
    """The lines for a server or a console in the background, for which the reader waits.

    It writes to --ready-fd when it is ready.  If it ends before, the pipe is closed, and the session goes on.
    """
    told = command.replace(" serve ", " serve --ready-fd 9 ", 1).removesuffix("&")
    lines = [f"mkfifo {pipe}", f"{told} 9>{pipe} &", f"read -r _ <{pipe}"]
    if " hmc serve " in command:
        found = re.search(r"--store \S+", command)
        lines.append(_LINKED.format(found[0] if found else ""))
    return lines


def shows(shown: str, written: str) -> bool:
    """Whether output is as a page shows it; `...` there stands for anything."""
    pattern = re.escape(shown.strip()).replace(r"\.\.\.", ".*")
    return re.fullmatch(pattern, written.strip(), re.DOTALL) is not None
