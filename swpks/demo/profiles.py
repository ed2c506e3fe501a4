"""Steps with a profile backup.

A restore of the backup loses the guest's later updates.  The console says so before it restores.
"""

from __future__ import annotations

import secrets

from hcall_abi.policies import Policy
from hcall_abi.statuses import Status
from hcall_client.guests.kernel import Name
from swpks.demo.attaching import SYSTEM
from swpks.demo.copies import LATE_SECRET
from swpks.demo.disk import digest
from swpks.demo.parts import secret_is_there
from swpks.demo.play import PARTITION, Play

UPDATE = Name("demo", "update")
"""An object that the guest writes after the snapshot."""
BACKUP = "before-update"
"""The profile backup, in the console's folder."""
_LOST = "later updates are lost"


async def save_profile(play: Play) -> None:
    """Make a profile backup; then let the guest change an object and write a new one."""
    shows = "bkprofdata saves attributes and sealed copies. Then the guest makes an update."
    with play.stage.step("A profile backup, and a later update of the guest", shows):
        play.line("bkprofdata", "-m", SYSTEM, "-f", BACKUP)
        saved = list((play.hmc.store / "profiles").glob(f"*/{BACKUP}"))
        held = len(saved) == 1 and play.late_secret[:8] not in saved[0].read_bytes()
        play.stage.check("the backup is there, and shows no object", held)
        play.update = secrets.token_bytes(64)
        kernel = play.chain.kernel
        await kernel.remove(LATE_SECRET)
        await kernel.write(LATE_SECRET, play.update, Policy.PWSET)
        await kernel.write(UPDATE, play.update, Policy.PWSET)
        play.stage.say(f"64 random bytes, SHA-256 {digest(play.update)}...")
        read = [(await kernel.read(name)).data for name in (LATE_SECRET, UPDATE)]
        play.stage.check("one object is changed, another one is new; both are in NVRAM",
                         read == [play.update] * 2)  # fmt: skip


async def restore_profile(play: Play) -> None:
    """Restore the backup: the console first refuses it with a list of losses, then an order forces it."""
    shows = (
        "rstprofdata would replace the present store by an older one. Only --forcekeystore accepts the loss."
    )
    with play.stage.step("The profile backup is restored: the update is lost, as announced", shows):
        await play.disconnect()
        play.line("chsysstate", "-r", "lpar", "-m", SYSTEM, "-n", PARTITION, "-o", "shutdown", "--immed")
        before = play.partition(PARTITION)
        restore = ("rstprofdata", "-m", SYSTEM, "-l", "1", "-f", BACKUP)
        text = play.line(*restore, status=1)
        play.stage.check("refused, with a list of the losses", text.count(_LOST) > 1 and PARTITION in text)
        play.stage.check("nothing was changed", play.partition(PARTITION) == before)
        text = play.line(*restore, "--forcekeystore")
        play.stage.check("forced: the same loss is announced, and the restore runs", _LOST in text)
        after = play.partition(PARTITION)
        counted = after.restores > before.restores and after.ipl_count >= before.ipl_count
        text = f"restores {after.restores}, IPL {after.ipl_count}"
        play.stage.check(f"contents go back, counters do not: {text}", counted)
        play.line("chsysstate", "-r", "lpar", "-m", SYSTEM, "-n", PARTITION, "-o", "on")
        await secret_is_there(play)
        late = await play.chain.kernel.read(LATE_SECRET)
        play.stage.check("the changed object is as in the snapshot", late.data == play.late_secret)
        await play.refused("reading the new object", play.chain.kernel.read(UPDATE), Status.H_NOT_FOUND)
        plain = play.disk.read(play.disk_key, len(play.note))
        play.stage.check("the disk opens and has the written data", plain == play.note)
