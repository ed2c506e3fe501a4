"""The traces of a server: which files they have, and the one trace of all connections (`--trace`).

The modules of `hcall_server.trace` are loaded with the first trace.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import trio

from hcall_abi.errors import OperatorError, StorageError, SwpksError
from hcall_abi.rules import service as rules
from hcall_abi.scarcity import scarcity_of
from hcall_server import __version__
from hcall_server.files import make_folder, refuse_link
from hcall_server.machine.tracing import TraceFacts
from hcall_server.process.folder import check_private
from hcall_server.service.layout import TRACES
from hcall_server.writeback.worker import ThreadWorker

if TYPE_CHECKING:
    from hcall_server.machine.sessions import Link, Sessions
    from hcall_server.platform.partition import Partition
    from hcall_server.service.settings import Settings
    from hcall_server.trace.taps import WireTrace
    from hcall_server.writeback.worker import Worker

PATIENCE = 5.0
"""Seconds that a request of the console, and a stop of the server, wait for the files of traces."""

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MEGABYTE = 1_000_000


def _thread() -> Worker:
    return ThreadWorker("swpks-trace", "a trace")


class SystemTraces:
    """The traces of the system whose state is `folder`.  All functions are called on one event loop.

    `date` returns seconds since 1970.  `make_worker` makes the worker of one trace.
    """

    def __init__(
        self,
        sessions: Sessions,
        folder: Path,
        settings: Settings,
        date: Callable[[], float],
        make_worker: Callable[[], Worker] = _thread,
    ) -> None:
        self._sessions = sessions
        self._folder = folder / TRACES
        self._settings = settings
        self._date = date
        self._make_worker = make_worker
        self._whole: WireTrace | None = None
        self._of: dict[UUID, WireTrace] = {}
        self._ending: list[WireTrace] = []
        self._past = (0, 0)

    def __repr__(self) -> str:
        return f"SystemTraces({len(self._of)} partitions)"

    def load(self) -> None:
        """Import the modules that a trace needs."""
        import hcall_server.trace.taps  # noqa: F401

    def begin_all(self) -> None:
        """Begin the trace of all connections, if the settings name a file; OperatorError if it can't be made.

        Blocks for the disk: call it before the server serves.
        """
        wanted = self._settings.trace
        if wanted is None:
            return
        path = Path(wanted)
        secrets = self._settings.trace_secrets
        trace = self._made(None, lambda: (_new_file(path), wanted), secrets=secrets)
        try:
            trace.recorder.start_made()
        except OSError as error:
            exists = isinstance(error, FileExistsError)
            remedy = "a trace replaces no file: move it, or choose another name" if exists else ""
            reason = "it exists" if exists else error.strerror or str(error)
            message = f"--trace {wanted}: {reason}" + (f"; {remedy}" if remedy else "")
            raise scarcity_of(error) or OperatorError(rules.TRACE_FILE, message) from None
        self._whole = trace
        trace.log_began()
        self._tap_from_now(trace)

    def discard(self) -> None:
        """Remove the file of `begin_all` after a start that failed, if it has no frame."""
        if self._whole and self._settings.trace and not self._whole.recorder.writer.frames:
            Path(self._settings.trace).unlink(missing_ok=True)

    async def begin(self, partition: Partition, *, secrets: bool) -> TraceFacts:
        """Begin the trace of a partition; see `Traces`."""
        uuid = partition.profile.uuid
        present = self._of.get(uuid)
        if present is not None and present.recorder.runs:
            message = f"{partition.name} is traced to {present.file}: end that trace first"
            raise OperatorError(rules.TRACE_ONCE, message, advised=True)
        if present is not None:
            self._drop(uuid)
        start = f"{partition.name}-{partition.ipl_count}"
        # The trace has its place before the wait: a second request must not begin another one.
        trace = self._of[uuid] = self._made(
            partition, lambda: _numbered_file(self._folder, start), secrets=secrets
        )
        trace.recorder.start()
        self._tap_from_now(trace)
        with trio.move_on_after(PATIENCE):
            await trace.recorder.wait_begun()
            if not trace.recorder.error:
                trace.log_began()
                return trace.facts()
        raise self._not_begun(partition, trace)

    async def end(self, partition: Partition) -> TraceFacts:
        """End the trace of a partition; see `Traces`."""
        uuid = partition.profile.uuid
        trace = self._of.get(uuid)
        if trace is None:
            message = f"{partition.name} is not traced: `swpks hmc trace {partition.name} on` begins a trace"
            raise OperatorError(rules.TRACE_BEGUN, message, advised=True)
        self._end(trace)
        with trio.move_on_after(PATIENCE):
            await trace.recorder.finished()
            self._drop(uuid)
            return trace.facts()
        message = f"{trace.file} is not complete after {PATIENCE:g} s: its disk does not answer"
        raise StorageError(rules.TRACE_STORED, message)

    def forget(self, partition: Partition) -> None:
        """End the trace of a partition that this system does not have any more."""
        trace = self._of.get(partition.profile.uuid)
        if trace is not None:
            self._end(trace)
            self._drop(partition.profile.uuid)

    def counts(self) -> tuple[int, int]:
        """Return how many frames all traces have written since the start, and how many were lost."""
        self._tidy()
        facts = [each.facts() for each in self._all()]
        frames, lost = self._past
        return frames + sum(each.frames for each in facts), lost + sum(each.lost for each in facts)

    async def close(self) -> None:
        """End all traces, and complete their files, in bounded time."""
        traces = self._all()
        for trace in traces:
            self._end(trace)
        with trio.move_on_after(PATIENCE):
            for trace in traces:
                await trace.recorder.finished()

    def _made(
        self, partition: Partition | None, make: Callable[[], tuple[int, str]], *, secrets: bool
    ) -> WireTrace:
        from hcall_server.trace.taps import Traced, WireTrace

        return WireTrace(
            Traced(partition, secrets),
            self._sessions,
            make,
            self._make_worker(),
            date=self._date,
            limit=int(self._settings.trace_limit_mb * _MEGABYTE),
            application=f"swpks {__version__}",
        )

    def _tap_from_now(self, trace: WireTrace) -> None:
        trace.tap_open()
        self._sessions.tap = self._tap

    def _not_begun(self, partition: Partition, trace: WireTrace) -> SwpksError:
        """End a trace whose file could not be made; return the error."""
        self._end(trace)
        self._drop(partition.profile.uuid)
        error, what = trace.recorder.error, f"the trace of {partition.name}"
        if error is not None and (scarcity := scarcity_of(error, what)):
            return scarcity
        if isinstance(error, SwpksError):  # the folder is a link, or is not private
            return error
        reason = str(error) if error else f"the disk does not answer within {PATIENCE:g} s"
        return StorageError(rules.TRACE_STORED, f"{what}: its file can't be made: {reason}")

    def _tap(self, link: Link) -> None:
        """Tap a new connection; once no trace runs any more, later connections pay nothing."""
        running = [trace for trace in self._all() if trace.recorder.runs]
        for trace in running:
            trace.tap(link)
        if not running:
            self._sessions.tap = None

    def _end(self, trace: WireTrace) -> None:
        trace.end()
        if not any(each.recorder.runs for each in self._all()):
            self._sessions.tap = None

    def _drop(self, uuid: UUID) -> None:
        """Remove an ended trace from the present ones; it is counted until it is complete, and then once."""
        self._ending.append(self._of.pop(uuid))
        self._tidy()

    def _tidy(self) -> None:
        """Add the numbers of complete traces to those of the past."""
        for trace in [each for each in self._ending if each.recorder.is_finished]:
            self._ending.remove(trace)
            facts = trace.facts()
            self._past = self._past[0] + facts.frames, self._past[1] + facts.lost

    def _all(self) -> list[WireTrace]:
        return [*([self._whole] if self._whole else []), *self._of.values(), *self._ending]


def _numbered_file(folder: Path, start: str) -> tuple[int, str]:
    """Make the file START-N.pcapng with the lowest free N, and its folder if it is missing; in the worker."""
    refuse_link(folder)
    make_folder(folder)
    check_private(folder)
    number = 1
    while True:
        name = f"{start}-{number}.pcapng"
        try:
            return _new_file(folder / name), name
        except FileExistsError:
            number += 1


def _new_file(path: Path) -> int:
    """Make a file of mode 0600; OSError if the name exists, also as a link."""
    return os.open(path, _NEW_FILE, 0o600)
