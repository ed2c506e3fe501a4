"""All cases that judge a client, in the order of their chapters."""

from __future__ import annotations

from swpks.conformance.case import ConformanceCase
from swpks.conformance.client.cases import answers, damage, ends, openings, order, requests, streams
from swpks.conformance.client.trial import Trial

CLIENT_CASES: tuple[ConformanceCase[Trial], ...] = tuple(
    case for module in (requests, openings, damage, order, answers, streams, ends) for case in module.CASES
)
"""All cases, in the order of a run."""
