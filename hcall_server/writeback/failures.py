"""Failures of a flush, as errors with a rule for the log, health and metrics (R-23)."""

from __future__ import annotations

from hcall_abi.errors import SwpksError
from hcall_abi.rules import storage as rules
from hcall_abi.scarcity import scarcity_of

# A flush fails for three kinds of reasons: NVRAM refuses; the host has no entropy, memory or thread; or a
# bug raises any other exception.  All three are handled alike.
#
# If an exception ended the encryptor, the whole server would end.  All changes that no commit has taken yet
# would be lost.  A server that goes on and reports the failure loses nothing: CONFIRM answers "not yet",
# and the operator can act.


def flush_error(error: Exception) -> SwpksError:
    """Return the failure of a flush as an error with a rule.  For a bug, its `__cause__` is the exception."""
    if isinstance(error, SwpksError):
        return error
    found: SwpksError | None = scarcity_of(error, "the flush")
    return found or _bug(error, "a bug ended the flush")


def waiter_error(error: Exception) -> SwpksError:
    """Return the error for a bug in a waiter's function; its `__cause__` is the exception."""
    return _bug(error, "a bug ended a CONFIRM that waited for the flush")


def _bug(error: Exception, what: str) -> SwpksError:
    found = SwpksError(rules.FLUSH_FINISHED, f"{what} ({type(error).__name__}): see the trace in the log")
    found.__cause__ = error
    return found
