"""Completion by a real bash, zsh or fish: one process of the shell completes many command lines."""

from __future__ import annotations

import os
import pty
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from swpks.cli.completion import script_of
from tests.debian.reporting import needed

SECONDS = 60
"""Longest time that a shell may take, on a busy machine."""
APART = "\x1f"
"""The character between the words that a shell offers for one line."""
ZSHRC = r"""
from=(${(M)fpath:#*/Completion*})  # all others would be read for nothing
fpath=($PWD/functions $from)
autoload -Uz compinit && compinit -u -D
compadd() {  # keep what the function offers; calls that only filter a list offer nothing
    [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]] || {
        local -a found
        builtin compadd -A found "$@"
        offered+=("$found[@]")
    }
    builtin compadd "$@"
}
quiet() { compstate[insert]= compstate[list]= }
zle -C offer complete-word _main_complete
zle-line-init() {
    local line
    local -a offered
    while IFS= read -r line; do
        BUFFER=$line CURSOR=$#line offered=() comppostfuncs=(quiet)
        zle offer
        print -r -- "${(pj:\x1f:)offered}"
    done <lines >answers
    exit
}
zle -N zle-line-init
"""
"""The commands of a zsh before its first prompt, because completion works only in its line editor."""
FISH = """
source swpks.fish
while read -l line
    set -l offered (complete --do-complete=$line | string replace -r '\\t.*' '')
    echo (string join \\x1f -- $offered)
end <lines
"""


def offers(shell: str, folder: Path, lines: list[list[str]]) -> list[list[str]]:
    """Return, for each command line, the words that the shell offers for the last word of that line.

    The shell runs in a folder below `folder`.
    """
    folder = folder / shell
    if not folder.exists():
        (folder / "boot").mkdir(parents=True)
        (folder / "kernel image").touch()
    found = _SHELLS[shell](folder, lines)
    assert len(found) == len(lines), found
    return [[word.replace("\\ ", " ") for word in line.split(APART) if word] for line in found]


def _bash(folder: Path, lines: list[list[str]]) -> list[str]:
    program = [script_of("bash")]
    for words in lines:
        # bash splits each word at "=" before it calls the completion.
        taken_apart = [part for word in words for part in re.findall("=|[^=]+|^$", word)]
        program.append(f"COMP_WORDS=({shlex.join(taken_apart)}); COMP_CWORD={len(taken_apart) - 1}; _swpks")
        program.append(f'(IFS={APART}; echo "${{COMPREPLY[*]}}")')
    return _run(["bash", "--norc", "-u"], folder, "\n".join(program))


def _fish(folder: Path, lines: list[list[str]]) -> list[str]:
    program = needed("fish", shutil.which("fish"))
    (folder / "swpks.fish").write_text(script_of("fish"))
    (folder / "lines").write_text("".join(f"{' '.join(words)}\n" for words in lines))
    return _run([program, "--no-config"], folder, FISH)


def _zsh(folder: Path, lines: list[list[str]]) -> list[str]:
    program = needed("zsh", shutil.which("zsh"))
    (folder / "functions").mkdir(exist_ok=True)
    (folder / "functions" / "_swpks").write_text(script_of("zsh"))
    (folder / "lines").write_text("".join(f"{' '.join(words)}\n" for words in lines))
    (folder / ".zshrc").write_text(ZSHRC)
    (folder / "answers").unlink(missing_ok=True)
    shown = _on_a_terminal([program, "-d", "-i"], folder)
    assert (folder / "answers").exists(), shown
    return (folder / "answers").read_text().splitlines()


def _run(command: list[str], folder: Path, program: str) -> list[str]:
    done = subprocess.run(
        command, input=program, capture_output=True, text=True, cwd=folder, timeout=SECONDS,
        env=_environment(folder), check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.splitlines()


def _on_a_terminal(command: list[str], folder: Path) -> str:
    """Run a command on a new terminal; return the text that it shows."""
    ours, its = pty.openpty()
    with subprocess.Popen(
        command,
        cwd=folder,
        env=_environment(folder),
        stdin=its,
        stdout=its,
        stderr=its,
        start_new_session=True,
    ):
        os.close(its)
        shown = b""
        while part := _read(ours):
            shown += part
    os.close(ours)
    return shown.decode(errors="replace")


def _read(terminal: int) -> bytes:
    """Return the next bytes that a terminal shows, or no bytes after its program has ended."""
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""


def _environment(folder: Path) -> Mapping[str, str]:
    """Return a minimal environment for a shell, without settings of the person who runs the tests."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "ZDOTDIR": str(folder),
        "TERM": "dumb",
        "LC_ALL": "C.UTF-8",
    }


_SHELLS: Mapping[str, Callable[[Path, list[list[str]]], list[str]]] = {
    "bash": _bash,
    "zsh": _zsh,
    "fish": _fish,
}
