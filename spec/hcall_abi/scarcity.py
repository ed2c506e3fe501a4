"""Maps an error of the operating system to the rule about a scarce resource, and to advice for the operator.

Both ends use it: the server for its answers and its log, the commands for their error message.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import NamedTuple

from hcall_abi.errors import ScarcityError
from hcall_abi.rules import service as rules
from hcall_abi.rules.rule import Rule


class Scarcity(NamedTuple):
    """The rule that was broken, and the sentence for the operator: the resource, and the action to take."""

    rule: Rule
    advice: str


_MEMORY = Scarcity(
    rules.SCARCE_MEMORY, "no memory is left: end other processes, or raise the limit of this one"
)
_THREADS = Scarcity(
    rules.SCARCE_THREADS,
    "no thread can be started: raise the limits of threads and memory (ulimit -u, TasksMax=, ulimit -v)",
)

BY_ERRNO: Mapping[int, Scarcity] = {
    errno.EMFILE: Scarcity(
        rules.SCARCE_DESCRIPTORS,
        "this process has no descriptor left: end some connections, or raise its limit "
        "(ulimit -n, LimitNOFILE=)",
    ),
    errno.ENFILE: Scarcity(
        rules.SCARCE_DESCRIPTORS,
        "the whole system has no descriptor left: end other processes, or raise fs.file-max",
    ),
    errno.ENOMEM: _MEMORY,
    errno.ENOBUFS: _MEMORY,
    errno.ENOSPC: Scarcity(rules.SCARCE_SPACE, "the file system is full: free some space"),
    errno.EDQUOT: Scarcity(rules.SCARCE_SPACE, "the quota is used up: free some space, or raise the quota"),
    errno.EROFS: Scarcity(rules.SCARCE_SPACE, "the file system is read-only: mount it for writing"),
    errno.EIO: Scarcity(rules.SCARCE_SPACE, "the device fails: see the log of the kernel"),
}
"""The scarcity behind each error number; all other numbers are about the request."""

_NO_THREAD = "start new thread"
"""Part of Python's message for a thread that the system refuses; the error has no number."""


def scarcity_of(error: BaseException, doing: str = "") -> ScarcityError | None:
    """Return the error that names the scarce resource; None if the error has another cause.

    `doing` names the activity for the message.  Without it, the message has the file of the error, if any.
    """
    if isinstance(error, ScarcityError):
        return error
    found = _found(error)
    if found is None:
        return None
    place = doing or str(getattr(error, "filename", None) or "")
    return ScarcityError(found.rule, f"{place}: {found.advice}" if place else found.advice, advised=True)


def _found(error: BaseException) -> Scarcity | None:
    if isinstance(error, OSError):
        return BY_ERRNO.get(error.errno or 0)
    if isinstance(error, BaseExceptionGroup):
        found = [_found(each) for each in error.exceptions]
        # If a group holds another error beside the scarcity, there is no advice: it would hide the other
        # error.
        return found[0] if all(found) else None
    if isinstance(error, MemoryError):
        return _MEMORY
    # If no thread can be started, Python raises an error without a type or a number of its own. So its
    # English text is compared.
    if isinstance(error, RuntimeError) and _NO_THREAD in str(error):
        return _THREADS
    return None
