"""The request of a management console about the trace of a partition, as in `hcall_abi.requests`."""

from __future__ import annotations

from typing import Literal

from hcall_abi.control_bodies import TraceSetting
from hcall_abi.control_views import TraceView
from hcall_abi.errors import OperatorError
from hcall_abi.mistakes import listed, of_caller
from hcall_abi.requests import VERB_OF, ConsoleRequest, checked_name
from hcall_abi.rules import service as rules

__tracebackhide__ = of_caller
_WORDS = ("off", "blanked", "secrets")


def set_trace(name: str, trace: Literal["off", "blanked", "secrets"]) -> ConsoleRequest[TraceView]:
    """Begin the trace of a partition, or end it ("off").

    "blanked" writes zeros for passwords, keys and object data; "secrets" writes all bytes.  OperatorError for
    any other word.
    """
    if trace not in _WORDS:
        raise OperatorError(rules.TRACE_WORD, f"no trace {trace!r}; they are {listed(_WORDS)}")
    return ConsoleRequest(VERB_OF["setTrace"], TraceView, checked_name(name), TraceSetting(trace=trace))
