"""Lines that start a job and follow it to its end (spec/console.md#jobs)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hcall_abi.errors import OperatorError
from hcall_abi.rules import hmc as rules

if TYPE_CHECKING:
    from hcall_server.console.jobs import Job
    from hcall_server.console.lines.line import Line


async def follow(line: Line, job: Job) -> int:
    """Follow a job to its end; the caller prints its lines meanwhile.

    OperatorError if the job failed.
    """
    await line.console.jobs.follow(job, line.caller.progress)
    if job.state == "failed":
        reason = job.lines[-1] if job.lines else "no reason is known"
        raise OperatorError(rules.LINE_JOB, f"job {job.number} ({job.kind}) failed: {reason}")
    return 0


async def follow_recovery(line: Line) -> int:
    """Follow the running recovery of a system, or begin one and follow it."""
    return await follow(line, line.console.recovery(line.known))
