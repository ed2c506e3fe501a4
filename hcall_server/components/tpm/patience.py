"""Bounds the time of an operation that blocks in a library."""

# A socket has a time-out of its own.  A library may have none, and a thread that hangs in C cannot be
# ended.  So the operation gets a thread of its own, which is left behind after the time.  We dropped the
# worker thread of NVRAM: after a call that hangs, every later flush would wait until the end of the
# process.
#
# The thread is a daemon.  At its end, the interpreter would wait for any other thread, and the server would
# never stop.

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TypeVar

import outcome

from hcall_abi.scarcity import scarcity_of
from hcall_server.components.seam import TpmSilentError

Result = TypeVar("Result")


def patiently(operation: Callable[[], Result], name: str, patience: float) -> Result:
    """Return the result of `operation`, or raise its error; TpmSilentError after `patience` seconds.

    The thread of an operation that hangs is left behind, and its late result is dropped.  ScarcityError if
    the system gives no thread.
    """
    results: queue.SimpleQueue[outcome.Outcome[Result]] = queue.SimpleQueue()
    thread = threading.Thread(
        target=lambda: results.put(outcome.capture(operation)), name=f"swpks-{name}", daemon=True
    )
    try:
        thread.start()
    except (RuntimeError, MemoryError) as error:
        raise scarcity_of(error, f"the thread of {name}") or error from None
    try:
        return results.get(timeout=patience).unwrap()
    except queue.Empty:
        raise TpmSilentError(
            f"{name}: the TPM did not answer within {patience:g} seconds; look at its log, and restart it"
        ) from None
