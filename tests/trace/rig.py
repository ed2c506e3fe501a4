"""A machine over memory streams with traces in a folder, and the frames of a file by their kind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hcall_abi.frames import FrameType
from hcall_server.data_channel.memory import MemoryTransport
from hcall_server.machine.machine import Machine
from hcall_server.service.assembly import assemble
from hcall_server.service.settings import PartitionSettings, Settings
from hcall_server.service.tracing import SystemTraces
from hcall_server.writeback.worker import InlineWorker, Worker
from swpks.testing.seams import simulated_seams
from tests.guest import ALL_CALLS, Chance
from tests.trace.reader import Capture, Recorded, read_capture

DATE = 1_700_000_000.25


def traced(
    folder: Path, *, worker: Callable[[], Worker] = InlineWorker, begin: bool = False, **settings: Any
) -> Machine:
    """Return a machine with the partitions alpha and beta; its traces are in `folder`.

    With `begin`, the trace of the settings begins at once.
    """
    attributes = {"keystore_kbytes": 64, **ALL_CALLS}
    wishes = tuple(PartitionSettings(name, attributes) for name in ("alpha", "beta"))
    made = Settings(firmware="NEXT", partition=wishes, **settings)
    machine = assemble(simulated_seams(transport=MemoryTransport(), entropy=Chance()), made)
    machine.start()
    traces = machine.traces = SystemTraces(machine.sessions, folder, made, lambda: DATE, worker)
    if begin:
        traces.begin_all()
    return machine


def traces_of(machine: Machine) -> SystemTraces:
    """Return the traces of a machine that `traced` has made."""
    assert isinstance(machine.traces, SystemTraces)
    return machine.traces


def kinds(capture: Capture) -> list[tuple[int, str]]:
    """Return the connection and the type of each frame."""
    return [(each.connection, FrameType(each.kind).name) for each in capture.frames]


def of_kind(path: Path, kind: FrameType) -> list[Recorded]:
    """Return the frames of one type in a file."""
    return [each for each in read_capture(path).frames if each.kind == kind]
