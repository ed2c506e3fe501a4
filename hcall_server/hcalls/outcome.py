"""What a handler returns: the status, the values of r4, r5, ... and what is to be written."""

from __future__ import annotations

from collections.abc import Callable

from hcall_abi.frames import Write
from hcall_abi.statuses import Status

Outcome = tuple[int, tuple[int, ...], tuple[Write, ...]]
Handler = Callable[..., Outcome]

SUCCESS = int(Status.H_SUCCESS)
DONE: Outcome = (SUCCESS, (), ())
"""Done, with nothing to tell."""
