"""A function that judges a client in this process. The client has one fault."""

from __future__ import annotations

from contextlib import ExitStack
from unittest import mock

from swpks.conformance.case import Finding, Judgement
from swpks.conformance.client.cases import CLIENT_CASES
from swpks.conformance.client.run import ClientRun
from tests.conformance.bad_clients import BadClient
from tests.conformance.pipes import ThreadEndpoint

PATIENCE = 0.25


def caught(bad: BadClient) -> Finding | None:
    """Return the first case in the client's chapter that fails, or None."""
    chosen = [case for case in CLIENT_CASES if case.chosen_by(bad.only)]
    assert chosen
    with ExitStack() as stack:
        if bad.patched:
            stack.enter_context(mock.patch(*bad.patched))
        findings = ClientRun(lambda: ThreadEndpoint(bad.make), PATIENCE).findings(chosen)
        found = next((each for each in findings if each.judgement is Judgement.FAILED), None)
        findings.close()  # type: ignore[attr-defined]
        return found
