"""Any error in a flush makes only this flush fail. It is reported and repeated (R-21, R-23)."""

from __future__ import annotations

import io
import json
import threading
from functools import partial
from typing import Never

import pytest
import trio
from trio.testing import MockClock

from hcall_abi.errors import SwpksError
from hcall_abi.faults import NvramFault
from hcall_abi.rules import service, storage
from hcall_abi.rules.rule import Rule
from hcall_server.machine import logs
from hcall_server.writeback.worker import InlineWorker, Job, Landed, ThreadWorker
from tests.writeback.rig import FLUSHED, PENDING, Rig

SECRET = "never in a log line"


class Failing(InlineWorker):
    """A worker that raises in some jobs, before or after the commit took effect."""

    def __init__(self, error: Exception, times: int, *, after: bool) -> None:
        self._error, self._times, self._after = error, times, after

    def start(self, job: Job, landed: Landed) -> None:
        if not self._times:
            super().start(job, landed)
            return
        self._times -= 1
        super().start(partial(self._fail, job), landed)

    def _fail(self, job: Job) -> None:
        if self._after:
            job()
        raise self._error


ERRORS: list[tuple[Exception, Rule]] = [
    (MemoryError(), service.SCARCE_MEMORY),
    (OSError(24, "Too many open files"), service.SCARCE_DESCRIPTORS),
    (OSError(28, "No space left on device"), service.SCARCE_SPACE),
    (OSError(5, "Input/output error"), service.SCARCE_SPACE),
    (OSError(2, "No such file or directory"), storage.FLUSH_FINISHED),
    (RuntimeError("can't start new thread"), service.SCARCE_THREADS),
    (RuntimeError("anything else"), storage.FLUSH_FINISHED),
    (ValueError("Nonce must be between 8 and 128 bytes"), storage.FLUSH_FINISHED),
    (ZeroDivisionError(), storage.FLUSH_FINISHED),
    (RecursionError(), storage.FLUSH_FINISHED),
]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("error,rule", ERRORS, ids=lambda each: getattr(each, "id", repr(each)))
async def test_any_error_is_one_failed_flush(
    error: Exception, rule: Rule, after: bool, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """R-21, R-23: after an error in a flush nothing counts as flushed.

    Health has the rule; the next flush stores all.
    """
    rig = Rig(worker=Failing(error, 2, after=after))
    rig.write(b"label")
    assert not await rig.encryptor.flush()
    assert rig.confirm(b"label") == PENDING
    health = rig.encryptor.health
    assert (health.state, health.ok, health.failures, health.pending) == ("retrying", False, 1, 1)
    assert rig.told[0] is not None
    assert (rig.told[0].rule, health.last_error) == (rule, rig.told[0].message)
    await nursery.start(rig.encryptor.run)
    await trio.sleep(5)
    assert rig.confirm(b"label") == FLUSHED
    assert rig.told[1:][-1] is None
    assert rig.power_cut().objects() == rig.objects() == {b"label": b"data"}


@pytest.mark.parametrize("error", [trio.Cancelled, KeyboardInterrupt, SystemExit])
async def test_an_end_is_no_failure(error: type[BaseException]) -> None:
    """R-23: an exception that ends the process is raised again, and does not count as a failed flush.

    The change stays dirty, so that the last flush stores it.
    """

    class Ended(InlineWorker):
        def start(self, job: Job, landed: Landed) -> None:
            super().start(fail, landed)

    def fail() -> None:
        raise error._create() if error is trio.Cancelled else error

    rig = Rig(worker=Ended())
    rig.write(b"label")
    with pytest.raises(error):
        await rig.encryptor.flush()
    assert (rig.encryptor.pending, rig.encryptor.health.failures) == (True, 0)


async def test_a_bug_is_logged_with_its_trace() -> None:
    """R-23: an error without a rule is logged with its traceback, a shortage with its rule."""
    stream = io.StringIO()
    logs.configure(style="json", stream=stream)
    try:
        for error in (ZeroDivisionError("a bug"), MemoryError()):
            rig = Rig(worker=Failing(error, 1, after=False))
            rig.encryptor.on_trouble = logs.log_trouble
            rig.write(b"label", SECRET.encode())
            assert not await rig.encryptor.flush()
    finally:
        logs.configure(level="warning")
    bug, memory = map(json.loads, stream.getvalue().splitlines())
    assert (bug["event"], bug["rule_id"], bug["fault"]) == ("flush.failed", "flush.finished", "internal")
    assert "ZeroDivisionError: a bug" in bug["exception"]
    assert (memory["event"], memory["rule_id"]) == ("flush.failed", "scarce.memory")
    assert "exception" not in memory
    assert SECRET not in stream.getvalue()


def _no_thread(self: threading.Thread) -> Never:
    raise RuntimeError("can't start new thread")


async def test_a_thread_that_is_refused_is_one_failed_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    """R-23: if no thread can start, its job is dropped, and the next flush tries again."""
    worker = ThreadWorker()
    rig = Rig(worker=worker)
    rig.write(b"label")
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", _no_thread)
        assert not await rig.encryptor.flush()
    assert isinstance(rig.told[0], SwpksError)
    assert rig.told[0].rule is service.SCARCE_THREADS
    with trio.fail_after(20):
        assert await rig.encryptor.flush()
    worker.close()
    assert rig.confirm(b"label") == FLUSHED


async def test_nvram_trouble_stays_what_it_was() -> None:
    """R-23: an NvramError in a flush is reported with its own rule and text."""
    rig = Rig(plan=[NvramFault("full")])
    rig.write(b"label")
    assert not await rig.encryptor.flush()
    assert [told and told.rule for told in rig.told] == [storage.NVRAM_COMMIT]
