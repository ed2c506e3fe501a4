"""Run a command under the rules of a systemd unit that need no systemd: filter of system calls, and memory.

    python under_unit.py swpks.service COMMAND...

It takes SystemCallFilter=, RestrictAddressFamilies= and MemoryDenyWriteExecute= of the unit, and gives them
to the kernel as systemd does.  Then it becomes the command.  A refused call fails with EPERM.
"""

import ctypes
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

REFUSED = 0x00050000 | 1  # SCMP_ACT_ERRNO(EPERM)
ALLOWED = 0x7FFF0000  # SCMP_ACT_ALLOW
EQUAL = 4  # SCMP_CMP_EQ
MEMORY, NO_GAIN = 65, 1  # PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN


class Compared(ctypes.Structure):
    """A condition of a rule: struct scmp_arg_cmp."""

    _fields_ = [
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("a", ctypes.c_uint64),
        ("b", ctypes.c_uint64),
    ]


def values(unit: str, name: str) -> list[str]:
    """Return the values of a setting that a unit has several times."""
    return re.findall(rf"^{name}=(.*)$", unit, re.MULTILINE)


def groups() -> dict[str, list[str]]:
    """Return the groups of calls that this systemd knows."""
    listed = subprocess.run(["systemd-analyze", "syscall-filter"], capture_output=True, text=True, check=True)
    plain = re.sub(r"\x1b\[[0-9;]*m|#.*", "", listed.stdout)
    return {
        name: body.split() for name, body in re.findall(r"^(@\S+)\n((?:[ \t]+.*\n|\n)*)", plain, re.MULTILINE)
    }


def expanded(name: str, known: dict[str, list[str]]) -> set[str]:
    """Return the calls of a group, or the call itself."""
    if not name.startswith("@"):
        return {name}
    return set().union(*(expanded(each, known) for each in known[name]))


def allowed(unit: str) -> set[str]:
    """Return the calls that a unit permits."""
    known = groups()
    calls = expanded("@default", known)
    for line in values(unit, "SystemCallFilter"):
        found = set().union(*(expanded(each, known) for each in line.lstrip("~").split()))
        calls = calls - found if line.startswith("~") else calls | found
    return calls


def apply(unit: str) -> None:
    """Give the rules of a unit to the kernel, for this process and all that follow."""
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    rules = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(REFUSED)))
    for call in sorted(allowed(unit) - {"socket"}):
        number = library.seccomp_syscall_resolve_name(call.encode())
        if number >= 0:  # else this machine does not have the call
            library.seccomp_rule_add_array(rules, ctypes.c_uint32(ALLOWED), number, 0, None)
    number = library.seccomp_syscall_resolve_name(b"socket")
    for family in " ".join(values(unit, "RestrictAddressFamilies")).split():
        only = Compared(0, EQUAL, getattr(socket, family), 0)
        library.seccomp_rule_add_array(rules, ctypes.c_uint32(ALLOWED), number, 1, ctypes.byref(only))
    if values(unit, "MemoryDenyWriteExecute") == ["yes"]:
        ctypes.CDLL(None).prctl(MEMORY, NO_GAIN, 0, 0, 0)  # a kernel before 6.3 does not have it
    if library.seccomp_load(rules):
        raise SystemExit("the kernel has refused the filter")


if __name__ == "__main__":
    apply(Path(sys.argv[1]).read_text("utf-8"))
    os.execv(sys.argv[2], sys.argv[2:])
