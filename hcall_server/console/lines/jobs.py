"""Lines that start a job and follow it to its end (spec/console.md#jobs)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hcall_abi.errors import OperatorError
from hcall_abi.remedies import REMEDIES
from hcall_abi.rules import hmc as rules
from hcall_server.console.advice import put_words

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
        # The remedy of the rule that failed the job helps more than that of `line.job`.
        remedy = "" if job.advised else put_words(REMEDIES.get(job.rule_id, ""), {"SYSTEM": line.known.name})
        message = f"job {job.number} ({job.kind}) failed: {reason}{remedy and '; '}{remedy}"
        raise OperatorError(rules.LINE_JOB, message, advised=job.advised or bool(remedy))
    return 0


async def follow_recovery(line: Line) -> int:
    """Follow the running recovery of a system, or begin one and follow it."""
    return await follow(line, line.console.recovery(line.known))
