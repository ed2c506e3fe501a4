"""Rules about resources of the host: a request, a start or a flush gets too little of one."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Never

import pytest

from hcall_abi.rules.rule import Rule
from hcall_server.data_channel.sockets import listen_unix
from hcall_server.service.entropy import checked
from hcall_server.writeback.worker import InlineWorker, Job, Landed, ThreadWorker
from tests.rules.breaking import Break, Breaks, breaks, refused, rule_of, run
from tests.rules.control import asked
from tests.scarcity.nth import failing
from tests.writeback.rig import Rig


def listening(number: int) -> Break:
    """Return a function that breaks a rule: the kernel refuses a private socket with this error number."""

    def broken(folder: Path) -> Rule:
        with failing(1, number):
            return refused(listen_unix, folder / "a.sock")

    return broken


def _no_thread(folder: Path) -> Rule:
    def start(self: threading.Thread) -> Never:
        raise RuntimeError("can't start new thread")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        return refused(ThreadWorker().started)


def _no_entropy(size: int) -> bytes:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


class _Broken(InlineWorker):
    def start(self, job: Job, landed: Landed) -> None:
        super().start(lambda: 1 // 0, landed)  # type: ignore[arg-type]


async def _flushed() -> Rule:
    rig = Rig(worker=_Broken())
    rig.changed()
    assert not await rig.encryptor.flush()
    assert rig.told[0] is not None
    return rule_of(rig.told[0])


BREAKS: Breaks = {
    "scarce.descriptors": listening(errno.EMFILE),
    "scarce.memory": asked("POST", "/v1/partitions/a/power-on", failure=MemoryError()),
    "scarce.threads": _no_thread,
    "scarce.entropy": breaks(checked(_no_entropy), 32),
    "scarce.space": listening(errno.ENOSPC),
    "flush.finished": lambda _: run(_flushed),
}
