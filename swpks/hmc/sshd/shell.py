"""The restricted shell of a session: its start file, its environment and its words.  Pure."""

# The shell
#
# It is `bash --restricted`: no `/` in names of commands, no output redirection, no `cd`, a fixed PATH.  PATH
# is one folder with the console's commands and the filters.  The start file closes more, before the
# restrictions begin:
#
#   - Builtins that read or write files, signal other processes or change limits are disabled.  `enable` is
#     one of them, so none comes back.  A restricted shell could not enable one anyway.
#   - Variables that the dynamic linker and the C library read are read-only.  `LD_DEBUG_OUTPUT` writes a
#     file, and `LD_PRELOAD` loads code.  The list is that of glibc for privileged programs.
#   - Limits bound a session: processor seconds, memory, files, size of a file.
#
# Two doors stay open, because bash has no switch for them: input redirection (`read line <FILE`, `$(<FILE)`,
# `</dev/tcp/HOST/PORT`) and globs (`echo /etc/*`).  So a session reads all that its user may read, and
# connects to all that this host reaches.  Landlock or a namespace of mounts would close this, but not every
# kernel has the one, and the other needs rights.  spec/threats.md states it.

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

BASH = "/bin/bash"
COMMANDS = "bin"
"""The folder of the commands, below the door's folder in the store."""
START = "start.bash"
"""The start file, below the door's folder."""
FORCED = "session"
"""The program that sshd runs for each session, below the door's folder."""
FILES = "files"
"""The folder of FILE arguments, below the store: also HOME and working folder of a session."""

DISABLED = (
    *(".", "source", "bind", "cd", "compgen", "complete", "compopt", "dirs", "disown", "exec", "fc"),
    *("hash", "help", "history", "kill", "mapfile", "popd", "pushd", "readarray", "shopt", "suspend"),
    *("ulimit", "umask", "enable"),
)
"""Builtins that the shell does not have."""

FIXED = (
    *("GCONV_PATH", "GETCONF_DIR", "GLIBC_TUNABLES", "HOSTALIASES", "LD_AUDIT", "LD_BIND_NOT", "LD_BIND_NOW"),
    *("LD_DEBUG", "LD_DEBUG_OUTPUT", "LD_DYNAMIC_WEAK", "LD_HWCAP_MASK", "LD_LIBRARY_PATH", "LD_ORIGIN_PATH"),
    *("LD_PREFER_MAP_32BIT_EXEC", "LD_PRELOAD", "LD_PROFILE", "LD_PROFILE_OUTPUT", "LD_SHOW_AUXV"),
    *("LD_TRACE_LOADED_OBJECTS", "LD_USE_LOAD_BIAS", "LD_VERBOSE", "LD_WARN", "LOCALDOMAIN", "LOCPATH"),
    *("MALLOC_TRACE", "NIS_PATH", "NLSPATH", "RESOLV_HOST_CONF", "RES_OPTIONS", "TMPDIR", "TZDIR"),
    *(
        "BASH_CMDS",
        "BASH_LOADABLES_PATH",
        "CDPATH",
        "EXECIGNORE",
        "FCEDIT",
        "HISTFILE",
        "HOSTFILE",
        "INPUTRC",
    ),
    *("MAIL", "MAILPATH", "TERMINFO", "TERMINFO_DIRS"),
)
"""Variables that a session can't set: those of glibc's list for privileged programs, and some of bash."""

_LIMITS = "-S -H -c 0", "-t 3600", "-v 4194304", "-f 65536", "-n 256"
"""No core dumps; processor seconds of a process; KiB of memory; KiB of a file; descriptors."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,31}")
_TERMINAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]{0,63}")


def is_login(name: str) -> bool:
    """Return whether a text can be a login name.  The prompt shows it, so it has no special character."""
    return _NAME.fullmatch(name) is not None


def start_file() -> str:
    """Return the text of the start file; bash reads it before its restrictions begin."""
    # A limit that is lower already stays: bash reports that, and the message is of no use in a session.
    limits = "\n".join(f"ulimit {each} 2>/dev/null" for each in _LIMITS)
    return (
        "# The start of a session of the console's SSH door; each start of the door writes this file.\n"
        f"{limits}\n"
        "umask 077\n"
        # Debian's bash has read /etc/bash.bashrc before, which sets a prompt and may define functions.
        "if [[ $- == *i* ]]; then\n"
        "    bind 'set enable-bracketed-paste off'\n"
        "    unalias -a\n"
        "    unset -f $(compgen -A function) command_not_found_handle\n"
        "    unset -v PROMPT_COMMAND\n"
        '    PS1="$USER@hmc:~> "\n'
        "fi\n"
        "unset BASH_ENV HISTFILE\n"
        f"readonly {' '.join(FIXED)}\n"
        f"enable -n {' '.join(DISABLED)}\n"
    )


@dataclass(frozen=True)
class DoorPlaces:
    """The paths of a session; all are absolute."""

    store: Path

    @property
    def door(self) -> Path:
        """The door's folder: host key, authorized keys, commands."""
        return self.store / "ssh"

    @property
    def commands(self) -> Path:
        """The folder that is the whole PATH."""
        return self.door / COMMANDS

    @property
    def start(self) -> Path:
        """The start file."""
        return self.door / START

    @property
    def forced(self) -> Path:
        """The program of each session under Debian's sshd."""
        return self.door / FORCED

    @property
    def files(self) -> Path:
        """The folder of FILE arguments."""
        return self.store / FILES


def environment(places: DoorPlaces, login: str, terminal: str | None = None) -> dict[str, str]:
    """Return the whole environment of a session; `terminal` is the client's word for its kind."""
    found = {
        "PATH": str(places.commands),
        "HOME": str(places.files),
        "SHELL": BASH,
        "USER": login,
        "LOGNAME": login,
        "LANG": "C.UTF-8",
        # A non-interactive bash reads the file of this variable, before its restrictions begin.
        "BASH_ENV": str(places.start),
    }
    if terminal is not None:
        found["TERM"] = terminal if _TERMINAL.fullmatch(terminal) else "dumb"
    return found


def words(places: DoorPlaces, command: str | None) -> list[str]:
    """Return the words of bash for a command of the client, or for an interactive shell."""
    restricted = [BASH, "--restricted", "--noprofile"]
    if command is not None:
        return [*restricted, "--norc", "-c", command]
    return [*restricted, "--rcfile", str(places.start), "-i"]


def forced_program(places: DoorPlaces, login: str) -> str:
    """Return the text of the program that sshd runs for a session."""
    values = environment(places, login)
    fixed = " ".join(shlex.quote(f"{name}={value}") for name, value in values.items())
    interactive = shlex.join(words(places, None))
    given = shlex.join(words(places, "")[:-1])  # the command follows as one word
    return (
        "#!/bin/bash -p\n"
        "# A session of the console's SSH door; each start of the door writes this file.\n"
        f"cd {shlex.quote(str(places.files))} || exit 1\n"
        f"clean=(/usr/bin/env -i {fixed})\n"
        'if [[ $TERM =~ ^[A-Za-z0-9][A-Za-z0-9.+_-]{0,63}$ ]]; then clean+=("TERM=$TERM"); fi\n'
        "if [[ ${SSH_ORIGINAL_COMMAND+set} ]]; then\n"
        f'    exec "${{clean[@]}}" {given} "$SSH_ORIGINAL_COMMAND"\n'
        "fi\n"
        f'exec "${{clean[@]}}" {interactive}\n'
    )
