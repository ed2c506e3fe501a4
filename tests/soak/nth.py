"""Every n-th fault and every n-th cancellation, in a start and in a flush.

python -m tests.soak.nth FOLDER SCALE        (with the recorder preloaded; see `run`)

After each fault the operation has happened or has not, and no confirmed change is lost. The error is one of
the server's own, and the next start works. The program prints one JSON object: the number of faults by kind.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import trio

from hcall_abi.errors import SwpksError
from hcall_server.machine import logs
from hcall_server.machine.logs import Log
from hcall_server.machine.machine import Machine
from hcall_server.service import server
from hcall_server.service.assembly import Seams, assemble
from hcall_server.service.settings import PartitionSettings, Settings
from hcall_server.service.state import State
from tests.guest import Guest
from tests.service.folder import old_state
from tests.soak.history import Whole
from tests.soak.nth_faults import Cancellation, Fault, OsFault, SqliteFault
from tests.soak.recording import build, recorded
from tests.soak.scenario import OLD
from tests.soak.stored import held

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0
"""Most seconds of a sample on a busy machine."""
_found: list[str] = []
WISHES = (PartitionSettings.of("a", 64), PartitionSettings.of("b", 8))
FLUSHED = (0, 1)
EMPTY = Whole({}, "off")
Objects = dict[tuple[int, bytes], tuple[int, bytes]]
_WELL, _STRUCK, _ESCAPED = range(10, 13)


def faults(scale: float) -> Iterator[Fault]:
    """Return the faults to try. A small scale has one of each kind."""
    yield OsFault(errno.EIO)
    yield SqliteFault("SQLITE_IOERR")
    yield Cancellation()
    if scale >= 1:
        yield from map(OsFault, (errno.ENOSPC, errno.EMFILE, errno.EINTR, errno.EACCES))
        yield from (SqliteFault("SQLITE_FULL"), SqliteFault("SQLITE_IOERR", after=True))


def serve(folder: Path, settings: Settings, fault: Fault | None = None, nth: int = 0) -> bool:
    """Start a server in its own process, and stop it as soon as it is ready. Return whether the fault struck.

    If the server ends with an error that is not one of its own, raise AssertionError.
    """
    child = os.fork()
    if not child:
        os._exit(_child(folder, settings, fault, nth))
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (_WELL, _STRUCK if fault else _WELL), f"the server ended with {status}"
    return status == _STRUCK


def _child(folder: Path, settings: Settings, fault: Fault | None, nth: int) -> int:
    # A cancelled server has dropped its handler. SIGTERM must not end this process then.
    signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        if fault is None:
            _run(folder, settings, None)
            return _WELL
        with suppress(SwpksError), fault.armed(nth):
            _run(folder, settings, fault)
    except BaseException:
        traceback.print_exc()
        return _ESCAPED
    return _STRUCK if fault.struck else _WELL


def _run(folder: Path, settings: Settings, fault: Fault | None) -> None:
    """Do the work of `server.run`. A cancellation acts on the loop of the server."""
    state = State(folder)
    seams = state.seams()
    machine = assemble(seams, settings)
    served = server.Server(machine, state, settings)
    if isinstance(fault, Cancellation):
        trio.run(_cancelled, fault, served.serve, _stop, instruments=[fault])
    else:
        trio.run(served.serve, _stop)
    _close(seams)


async def _cancelled(fault: Cancellation, operation: Any, *given: Any) -> Any:
    with fault.scope:
        return await operation(*given)


def _stop(_: dict[str, Any]) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _close(seams: Seams) -> None:
    """Wait for NVRAM's thread, which goes on after a cancelled commit, and close NVRAM."""
    seams.worker.close()
    for thread in threading.enumerate():
        if thread.name == "swpks-nvram":
            thread.join()
    seams.nvram.close()


def try_starts(folder: Path, fault: Fault, base: Path | None, stride: int) -> int:
    """Let each n-th fault strike in a start on a copy of `base`, or on a new state; return their number."""
    state, nth, struck = folder / "start", 1, True
    before = held(_copy(base, folder / "before")) if base else {}
    keys = _keys(base) if base else {}
    while struck:
        shutil.rmtree(state, ignore_errors=True)
        if base:
            _copy(base, state)
        with place(fault, "start", nth):
            struck = serve(state, Settings(partition=WISHES), fault, nth)
        with place(fault, "next start", nth):
            found = held(state)
            assert {name: found[name] for name in before} == before, "a confirmed change is lost"
            serve(state, Settings(partition=WISHES))
            assert held(state) == {"a": EMPTY, "b": EMPTY} | before
            assert keys.items() <= _keys(state).items(), "the clients' keys have changed"
        nth += stride
    return nth // stride - 1


def _keys(state: Path) -> dict[str, str]:
    return {path.stem: path.read_text() for path in (state / "access-keys").iterdir()}


def _copy(folder: Path, to: Path) -> Path:
    shutil.rmtree(to, ignore_errors=True)
    return shutil.copytree(folder, to, ignore=shutil.ignore_patterns("*.sock"))


async def try_flushes(folder: Path, fault: Fault, prefill: int = 0) -> int:
    """Let each n-th fault strike in a flush of one running machine; return their number.

    Before each of these flushes, `prefill` other flushes fill SQLite's log. The flush then has a
    checkpoint.
    """
    nth = 1
    objects: Objects = {}
    async with running(folder / "state") as machine:
        guest = Guest(machine.system.find("a"))
        while True:
            for _ in range(prefill):
                objects = change(machine, guest, objects, 60_000)
                assert await machine.encryptor.flush()
            before, objects = objects, change(machine, guest, objects, 3000)
            with place(fault, "flush", nth):
                done = await _flush(machine, fault, nth)
                flushed = all(guest.confirm(3, label)[:2] == FLUSHED for _, label in objects)
                if isinstance(fault, Cancellation):
                    assert flushed or not done, "a flush that returned True makes its data durable"
                else:
                    assert flushed == done, "only data of a flush that returned True is durable"
                found = _after_kill(folder)
                assert found in ((objects,) if flushed else (before, objects)), "a mixture, or an older state"
                assert await machine.encryptor.flush(), "the next flush works"
                assert _after_kill(folder) == objects
            if not fault.struck:
                return nth - 1
            nth += 1


def change(machine: Machine, guest: Guest, objects: Objects, size: int) -> Objects:
    """Replace all objects of a partition by a new one; return the new contents."""
    for _, label in objects:
        assert guest.remove(3, label).status == 0
    made = b"object " + os.urandom(8), os.urandom(size)
    assert guest.write(3, *made).status == 0
    machine.after_calls(guest.partition, Log())
    return {(3, made[0]): (0, made[1])}


async def _flush(machine: Machine, fault: Fault, nth: int) -> bool:
    """Flush while a fault may strike; return the result. After a cancel the commit goes on."""
    with fault.armed(nth):
        if isinstance(fault, Cancellation):
            trio.lowlevel.add_instrument(fault)
            try:
                return bool(await _cancelled(fault, machine.encryptor.flush))
            finally:
                trio.lowlevel.remove_instrument(fault)
        return await machine.encryptor.flush()


def _after_kill(folder: Path) -> Objects:
    """Return the objects of partition a that a start would find after a kill at this moment."""
    return held(_copy(folder / "state", folder / "copy"))["a"].objects


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Machine]:
    """A machine on a state folder.

    Its partitions are activated and durable, and it flushes only on request.
    """
    state = State(folder)
    seams = state.seams()
    try:
        machine = assemble(seams, Settings(partition=WISHES))
        async with trio.open_nursery() as nursery:
            await nursery.start(machine.transport.run, machine)
            machine.start()
            assert await machine.encryptor.flush()
            yield machine
            nursery.cancel_scope.cancel()
    finally:
        state.listeners.close_all()
        _close(seams)
        state.close()


@contextmanager
def place(fault: Fault, operation: str, nth: int) -> Iterator[None]:
    """For a block, report a failure with its fault and n. The sweep goes on with the next n."""
    try:
        yield
    except Exception as error:
        print(f"{operation}, {fault.name}, n = {nth}: {error!r}", file=sys.stderr)
        _found.append(f"{operation}, {fault.name}, n = {nth}")


def base_state(folder: Path) -> Path:
    """Make a state with a partition that has an object."""

    async def fill() -> None:
        async with running(folder) as machine:
            guest = Guest(machine.system.find("a"))
            change(machine, guest, {}, 3000)
            assert await machine.encryptor.flush()

    trio.run(fill)
    return folder


def main(folder: Path, scale: float) -> None:
    """Try all operations and faults; print how many faults of each kind struck."""
    logs.configure(level="error", stream=(folder / "log").open("w"))
    stride = max(1, round(1 / scale))
    counts: dict[str, int] = {}
    base, old = base_state(folder / "base"), old_state(folder / "old", *OLD)
    for number, fault in enumerate(faults(scale)):
        counts[f"start, {fault.name}"] = try_starts(folder, fault, base, stride)
        counts[f"conversion, {fault.name}"] = try_starts(folder, fault, old, stride)
        counts[f"first start, {fault.name}"] = try_starts(folder, fault, None, stride)
        for prefill in (0, 30) if scale >= 1 else (0,):
            inner = folder / f"{number}-{prefill}"
            inner.mkdir()
            with fault.connections() if isinstance(fault, SqliteFault) else nullcontext():
                found = trio.run(try_flushes, inner, fault, prefill)
            counts[f"flush{' with a checkpoint' if prefill else ''}, {fault.name}"] = found
    print(json.dumps(counts))
    if _found:
        sys.exit("\n".join(_found))


def run(folder: Path, scale: float) -> dict[str, int]:
    """Run this program in a process with the recorder. If it fails, raise AssertionError with its output."""
    command = [sys.executable, "-m", __name__, str(folder), str(scale)]
    with recorded(build(folder), folder, Path(os.devnull)):
        done = subprocess.run(
            command,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=PATIENCE * (1 + 100 * scale),
            check=False,
        )
    assert done.returncode == 0, done.stderr[-20000:]
    found: dict[str, int] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
