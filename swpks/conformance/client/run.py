"""Run cases on a client: each case gets a trial of its own.

A client that hangs is killed and started again.  If three cases in a row fail and use up the patience, the
other cases are not run.  Each of them would wait as long.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from swpks.conformance.case import MOST_SILENCES, ConformanceCase, Deviation, Finding, Judgement, NotRun
from swpks.conformance.client.dialogue import PATIENCE, LineClient, Silent, Start
from swpks.conformance.client.endpoint import ClientNotStarted
from swpks.conformance.client.trial import Trial

LAST_LINES = 14
"""Lines of the dialogue that the report of a failure shows."""

ClientCase = ConformanceCase[Trial]


class ClientRun:
    """A run of cases on one client; `name` is the name that the client gives itself."""

    def __init__(self, start: Start, patience: float = PATIENCE) -> None:
        self._client = LineClient(start, patience)
        self._silences = 0

    @property
    def name(self) -> str:
        """The client's own name; empty before its start."""
        return self._client.name

    def findings(self, cases: Sequence[ClientCase]) -> Iterator[Finding]:
        """Yield the finding of each case; ClientNotStarted if the first start of the client fails."""
        with tempfile.TemporaryDirectory(prefix="swpks-") as folder:
            try:
                self._client.begin()
                for case in cases:
                    yield self._finding(case, Path(folder))
            finally:
                self._client.stop()

    def _finding(self, case: ClientCase, folder: Path) -> Finding:
        if self._silences >= MOST_SILENCES:
            waited = f"{self._client.patience:g} s in each of {MOST_SILENCES} cases in a row"
            reason = f"the run has ended early: the client let the judge wait {waited}"
            return Finding(case.id, case.page, case.rule, Judgement.NOT_RUN, reason)
        began = time.monotonic()
        self._client.log.clear()
        judgement, reason = self._judged(case, folder)
        lines = () if judgement is Judgement.PASSED else tuple(self._client.log[-LAST_LINES:])
        seconds = time.monotonic() - began
        # A case counts as silent if it failed and took the whole patience.  The judge may have waited for a
        # line, a frame, a connection or the start: all of them cost the same time.
        silent = judgement is Judgement.FAILED and seconds >= self._client.patience
        self._silences = self._silences + 1 if silent else 0
        return Finding(case.id, case.page, case.rule, judgement, reason, lines, seconds)

    def _judged(self, case: ClientCase, folder: Path) -> tuple[Judgement, str]:
        try:
            self._client.begin()
        except ClientNotStarted as error:
            return Judgement.FAILED, f"the client could not be started again: {error.message}"
        trial = Trial(self._client, folder)
        try:
            case.run(trial)
            trial.leave()
            if not self._client.closed():
                raise Deviation("one line for each command", "more lines")
        except NotRun as error:
            self._recover(trial)
            return Judgement.NOT_RUN, str(error)
        # Silent is a Deviation too, so it is caught first: a silent client is killed without another command.
        except Silent as error:
            trial.leave()
            self._client.stop(kill=True)
            return Judgement.FAILED, str(error)
        except Deviation as error:
            self._recover(trial)
            return Judgement.FAILED, str(error)
        return Judgement.PASSED, ""

    def _recover(self, trial: Trial) -> None:
        """Bring the client back to a state without a session, or kill it if that fails."""
        trial.leave()
        # The lines of the recovery are deleted, so that the report ends with the lines of the failure.
        before = len(self._client.log)
        # If the client answers `close`, the next case uses it too: a new start may take seconds.
        with suppress(Deviation):
            self._client.closed()
            del self._client.log[before:]
            return
        del self._client.log[before:]
        self._client.stop(kill=True)
