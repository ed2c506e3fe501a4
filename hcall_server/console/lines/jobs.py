"""Lines that are long work: they start a job and follow it to its end (spec/console.md#jobs)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hcall_abi.errors import OperatorError
from hcall_abi.rules import hmc as rules

if TYPE_CHECKING:
    from hcall_server.console.jobs import Job
    from hcall_server.console.lines.line import Line


async def follow(line: Line, job: Job) -> int:
    """Follow a job to its end; the caller prints its lines as they come.  OperatorError if it failed."""
    await line.console.jobs.follow(job, line.caller.progress)
    if job.state == "failed":
        reason = job.lines[-1] if job.lines else "no reason is known"
        raise OperatorError(rules.LINE_JOB, f"job {job.number} ({job.kind}) failed: {reason}")
    return 0


async def follow_recovery(line: Line) -> int:
    """Restore the stores of a system from the console's copies; a recovery that runs is followed."""
    return await follow(line, line.console.recovery(line.known))
