"""Simulated seams: a machine without sockets, disk and threads.

nvram, card = MemoryNvram(), MemoryCard()
machine = assemble(simulated_seams(nvram=nvram, card=card), settings)
...                                                     # a power cut: drop the machine
machine = assemble(simulated_seams(nvram=nvram, card=card), settings)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from hcall_server.components.seam import AnchorCardPart, Tpm
    from hcall_server.machine.machine import Transport
    from hcall_server.nvram.seam import Nvram
    from hcall_server.service.assembly import Seams
    from hcall_server.writeback.worker import Worker


def loop_time() -> float:
    """Return the seconds of the trio clock, which may be a MockClock; 0 if no loop runs yet."""
    return trio.current_time() if trio.lowlevel.in_trio_run() else 0.0


def simulated_seams(
    *,
    nvram: Nvram | None = None,
    card: AnchorCardPart | None = None,
    tpms: Sequence[Tpm] = (),
    worker: Worker | None = None,
    transport: Transport | None = None,
    entropy: Callable[[int], bytes] = os.urandom,
    clock: Callable[[], float] = loop_time,
) -> Seams:
    """Return seams for `hcall_server.service.assembly.assemble`: the given ones, simulated ones for the rest.

    By default NVRAM and anchor card are new and in memory.  The TPM always has the same seed.  Commits run on
    the loop, connections are memory streams, and the clock is `loop_time`.
    """
    # By default commits run on the loop, not in a thread. A MockClock jumps when all tasks wait; it does not
    # know that a thread still works, and would jump too early.
    from hcall_server.components.memory import MemoryCard, MemoryTpm
    from hcall_server.components.seam import Components
    from hcall_server.data_channel.memory import MemoryTransport
    from hcall_server.nvram.memory import MemoryNvram
    from hcall_server.service.assembly import Seams
    from hcall_server.writeback.worker import InlineWorker

    return Seams(
        entropy=entropy,
        clock=clock,
        nvram=nvram or MemoryNvram(),
        components=Components(card or MemoryCard(), tuple(tpms) or (MemoryTpm(seed=0),)),
        worker=worker or InlineWorker(),
        transport=transport or MemoryTransport(),
    )
