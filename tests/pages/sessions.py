"""Doing what a page tells its reader to type."""

import os
import re
import subprocess
import sys
from pathlib import Path

SECONDS = 120
"""Longest time that a session may take, on a busy machine."""

_MARK = "#next#"
_READY = "until swpks hmc health 2>/dev/null | grep -q '^healthy\\|state Recovery'; do :; done"
"""The loop added after a command in the background: that is a server, and the reader waits for it."""


def run(folder: Path, commands: list[str], then: str = "") -> list[str]:
    """Do the commands in one shell, as a reader would; returns what each has written.

    `then` is done at the end, while the servers of the session still run; they are ended afterwards.
    """
    lines = ["trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT"]
    for command in commands:
        lines += [command, _READY] if command.endswith("&") else [command]
        lines.append(f"echo '{_MARK}'")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SWPKS_")}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-c", "\n".join([*lines, then])], cwd=folder, env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    return done.stdout.split(f"{_MARK}\n")


def shows(shown: str, written: str) -> bool:
    """Whether output is as a page shows it; `...` there stands for anything."""
    pattern = re.escape(shown.strip()).replace(r"\.\.\.", ".*")
    return re.fullmatch(pattern, written.strip(), re.DOTALL) is not None
