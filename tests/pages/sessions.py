"""Runs the terminal sessions that a page shows."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.spec.markdown import Session, blocks

SECONDS = 240
"""Longest time that a session may take, on a busy machine."""

ONLY_OURS = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": "-p swpks -p trio -p no:cacheprovider"}
"""The environment of a pytest that loads swpks and pytest-trio alone: loading all others takes a second."""
_MARK = "#next#"
_LINKED = "until swpks hmc {} systems 2>/dev/null >.linked && ! grep -q ' away ' .linked; do :; done"
"""The loop added after a console in the background: the reader waits until it is connected to its systems."""
_TIME = re.compile(r"\[ *\d+\.\d+\] ")
"""The text before a message of a kernel: the seconds since its start, which differ from boot to boot."""


def run(folder: Path, commands: list[str], then: str = "", seconds: float = SECONDS) -> list[str]:
    """Run the commands in one shell, as a reader does; return the output of each, and that of `then`.

    `then` runs at the end, while the servers of the session still run; they are ended afterwards.
    If the shell has ended earlier, fail: the rest of a page would not be compared.
    """
    lines = ["trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT"]
    for number, command in enumerate(commands):
        server = command.endswith("&") and " serve " in command
        lines += _awaited(command, f".ready{number}") if server else [command]
        lines.append(f"echo '{_MARK}'")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SWPKS_")}
    if "SWPKS_CACHE" in os.environ:
        # With this cache, Debian's files are downloaded only once.
        environment["SWPKS_CACHE"] = os.environ["SWPKS_CACHE"]
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-c", "\n".join([*lines, then])], cwd=folder, env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds, check=False,
        start_new_session=True,
    )  # fmt: skip
    # GRUB prints a carriage return behind each line. It is removed, because the page shows none.
    printed = done.stdout.decode(errors="replace").replace("\r", "")
    written = printed.split(f"{_MARK}\n")
    assert len(written) == len(commands) + 1, f"the shell ended in {commands[len(written) - 1]}\n{printed}"
    assert done.returncode == 0, printed
    return written


def follow(
    folder: Path, steps: Session, then: str = "", seconds: float = SECONDS, *, by_line: bool = False
) -> str:
    """Run a session, and compare the output of each command with the page; return the output of `then`.

    The commands of a guest are the input of the command that starts it.  `by_line`: as in `shows`.
    """
    commands = [
        f"{command} <<'#typed#'\n{typed}#typed#" if typed else command
        for command, typed in zip(steps.commands, steps.typed, strict=True)
    ]
    *written, last = run(folder, commands, then, seconds)
    expected_and_found = zip(steps.commands, steps.typed, steps.shown, written, strict=True)
    wrong = [difference(*each, by_line=by_line) for each in expected_and_found]
    assert not any(wrong), "\n".join(filter(None, wrong))
    return last


def difference(command: str, typed: str, expected: str, found: str, *, by_line: bool = False) -> str:
    """Return a text about a difference in output, or "".

    A guest may print more lines than the page shows.
    """
    if not typed:
        found = on_terminal(found)
        return "" if shows(on_terminal(expected), found, by_line=by_line) else f"$ {command}\n{found}"
    missing = absent(expected, found)
    return f"{missing!r} is not printed, or not in this place:\n$ {command}\n{found}" if missing else ""


def _awaited(command: str, pipe: str) -> list[str]:
    """Return shell lines that start a server or console in the background and wait until it is ready.

    It writes to --ready-fd when it is ready. If it ends before, the pipe is closed, and the session goes on.
    """
    started = command.replace(" serve ", " serve --ready-fd 9 ", 1).removesuffix("&")
    lines = [f"mkfifo {pipe}", f"{started} 9>{pipe} &", f"read -r _ <{pipe}"]
    if " hmc serve " in command:
        found = re.search(r"--store \S+", command)
        lines.append(_LINKED.format(found[0] if found else ""))
    return lines


def shows(shown: str, written: str, *, by_line: bool = False) -> bool:
    """Whether output is as a page shows it; `...` there stands for any text.

    `by_line`: only a line `...` stands for lines, and `...` inside a line for a part of this line.
    """
    pattern = _pattern(shown)
    if by_line:
        lines = shown.strip().splitlines()
        parts = (".*" if each == "..." else _pattern(each).replace(".*", "[^\n]*") for each in lines)
        pattern = "\n".join(parts)
    return re.fullmatch(pattern, written.strip(), re.DOTALL) is not None


def absent(shown: str, written: str) -> str | None:
    """Return the first line that a guest has not printed in order, or None. A guest may print more."""
    rest = _TIME.sub("", written)
    for line in shown.splitlines():
        found = re.search(_pattern(_TIME.sub("", line)), rest)
        if found is None:
            return line
        rest = rest[found.end() :]
    return None


def screen(path: Path, heading: str) -> str:
    """Return the output after the last shell command under a heading: what the terminal then shows."""
    last = blocks(path, heading)[-1]
    return re.split(r"^\$ (?:.*\\\n)*.*\n", last, flags=re.MULTILINE)[-1]


def not_on_screen(shown: str, written: str) -> str | None:
    """Return the first shown lines that a guest's terminal does not have in order, or None.

    Lines are left out only where the page has a line `...`. All others follow each other on the terminal.
    """
    rest, left_out = on_terminal(written), False
    for block in re.split(r"^(\.\.\.\n)", on_terminal(shown), flags=re.MULTILINE):
        if block == "...\n":
            left_out = True
        elif block:
            pattern = re.compile(re.escape(block).replace(r"\.\.\.", "[^\n]*"))
            found = pattern.search(rest) if left_out else pattern.match(rest)
            if found is None:
                return block
            rest, left_out = rest[found.end() :], False
    return None if left_out or not rest else f"(the end, before {rest.splitlines()[0]!r})"


def on_terminal(text: str) -> str:
    """Return the lines of a terminal without times, escape sequences and carriage returns."""
    return _TIME.sub("", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", text)).strip("\n") + "\n"


def _pattern(shown: str) -> str:
    return re.escape(shown.strip()).replace(r"\.\.\.", ".*")
