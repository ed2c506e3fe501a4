"""The steps of the demo in their order, and the function that runs them."""

# The order of the steps
#
# There is one system, one partition and one disk key.  Each step relies on the state that the earlier steps
# have left. So the order has reasons:
#
#   - The first IPL stores the objects.  Each later step checks that one of them survives, or that it is
#     refused.
#   - The power cut comes right after the confirmed writes: the next IPL shows that they were durable.
#   - A bit of NVRAM is flipped while the neighbour exists, because only one of the two may be refused.
#   - Card and TPM are lost after a copy of the store was saved.  All later steps use a store that comes from
#     this copy.
#   - The console is attached to the restored system, and the last steps are orders to this console.
#
# If a step breaks, the demo ends: later checks would fail for the same reason, and hide the first failure.

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

from swpks.demo import (
    attaching,
    copies,
    erasing,
    first_ipl,
    moving,
    next_ipls,
    parts,
    profiles,
    restoring,
    tampering,
)
from swpks.demo.play import Play, Step
from swpks.demo.stage import DemoStage, StepBroken

TITLE = "swpks demo: a partition locks its objects, loses power and parts, gets its store back, and moves"
NEXT = "The same stages as stock programs, firmware, GRUB and Linux, in QEMU: docs/boot-loader.md"
"""The last line: the demo's own stages are programs of swpks."""

STEPS: Sequence[Step] = (
    first_ipl.power_on,
    first_ipl.lock_all_stages,
    first_ipl.make_disk_key,
    first_ipl.encrypt_disk,
    first_ipl.isolate_neighbour,
    first_ipl.cut_power,
    next_ipls.lose_passwords,
    next_ipls.open_disk_again,
    next_ipls.read_public_keys,
    next_ipls.keep_immutable,
    next_ipls.switch_secure_boot_off,
    next_ipls.switch_secure_boot_on,
    tampering.tamper,
    parts.replace_card,
    copies.write_behind,
    copies.copy_for_console,
    parts.replace_tpm,
    erasing.lose_both,
    erasing.erase,
    erasing.start_new,
    restoring.refuse_copies,
    restoring.restore_copies,
    attaching.attach_console,
    attaching.replace_service_processor,
    profiles.save_profile,
    profiles.restore_profile,
    moving.migrate,
    moving.restart_remotely,
    moving.clean_up,
)


async def perform(stage: DemoStage, folder: Path, steps: Sequence[Step]) -> bool:
    """Run the steps in an empty folder; return whether all checks held.

    An error in a step ends the demo.  When this returns or raises, server and console have ended.
    """
    play = Play(stage, folder)
    began = time.monotonic()
    stage.title(TITLE)
    try:
        with contextlib.suppress(StepBroken):
            for step in steps:
                await step(play)
    finally:
        # The servers are killed, not stopped: after an error or an interrupt a server may not answer any
        # more.
        play.hmc.kill()
        play.spare.kill()
        play.server.kill()
        await play.disconnect()
    stage.end(time.monotonic() - began)
    if stage.held:
        stage.title(NEXT)
    return stage.held
