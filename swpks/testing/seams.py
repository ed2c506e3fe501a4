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
    """Return seams for `hcall_server.service.assembly.assemble`: the given ones, else simulated ones.

    By default NVRAM and anchor card are new and in memory, and the TPM is always the same one.  Commits run
    on the loop, connections are memory streams, and the clock is `loop_time`.
    """
    # Commits run inline by default. With a MockClock that jumps when all tasks wait, a thread would be
    # overtaken: the clock does not see that its work is under way.
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
