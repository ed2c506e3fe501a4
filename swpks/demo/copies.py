"""Steps 8 and 9: a change is encrypted and stored later, and the console gets a copy."""

from __future__ import annotations

import secrets

import trio

from hcall_abi.consumers import Consumer
from hcall_abi.policies import Policy
from hcall_client.calls import Authorization, confirm_object_flushed, write_object
from hcall_client.console import show_partition, show_trusted_key
from hcall_client.guests.kernel import Name
from swpks.demo.disk import digest
from swpks.demo.first_ipl import SOON
from swpks.demo.play import PARTITION, Play

LATE_SECRET = Name("demo", "late-secret")
"""An object that the guest writes after the parts were replaced."""
COPY, KEY, SEALED = f"{PARTITION}.copy", "trusted-system.key", "trusted-system.sealed"
"""Files of the console: the copy, the operator's key for it, and the same key sealed by the system."""


async def write_behind(play: Play) -> None:
    """Write while NVRAM hangs: CONFIRM reports "pending", and "flushed" once NVRAM works again (step 8)."""
    shows = "Step 8 of the procedure: WRITE changes memory. The system encrypts and stores it later."
    with play.stage.step("A change is encrypted and stored; CONFIRM reports it", shows):
        play.late_secret = secrets.token_bytes(64)
        kernel, label = play.chain.kernel, LATE_SECRET.label
        owner = Authorization(Consumer.OPERATING_SYSTEM, kernel.password)
        # NVRAM hangs before the WRITE: otherwise the flush could be over before CONFIRM asks.
        play.console("nvram", "stall")
        await play.channel.call(write_object(owner, label, play.late_secret, Policy.PWSET))
        play.stage.say(f"64 random bytes, SHA-256 {digest(play.late_secret)}...")
        pending = await play.channel.call(confirm_object_flushed(owner, label))
        play.stage.check(f"NVRAM hangs: CONFIRM says {_words(pending.flushed)}", not pending.flushed)
        read = await kernel.read(LATE_SECRET)
        play.stage.check("READ already returns the change", read == (play.late_secret, Policy.PWSET))
        play.console("nvram", "none")
        flushed = False
        with trio.move_on_after(SOON):
            while not flushed:
                flushed = (await play.channel.call(confirm_object_flushed(owner, label))).flushed
        play.stage.check(f"step 8: NVRAM works again: CONFIRM says {_words(flushed)}", flushed)
        stored = [path.read_bytes() for path in sorted(play.nvram.parent.iterdir())]
        found = any(play.late_secret[:8] in each for each in stored)
        play.stage.check("NVRAM does not contain the bytes in clear", bool(stored) and not found)


async def copy_for_console(play: Play) -> None:
    """Set a trusted system key from a file of the operator, and save a copy of the store (step 9)."""
    shows = "Step 9: the trusted system key seals a copy. The operator has a file of this key."
    with play.stage.step("The console gets a copy of the store", shows):
        play.trusted_key = secrets.token_bytes(32)
        file = play.folder / KEY
        # The mode is set before the content is written, so no other user can read the key at any moment.
        file.touch(0o600)
        file.write_bytes(play.trusted_key)
        play.console("chtskey", "-o", "change", "--newkey", str(file))
        play.console("lstskey", "--sealed", str(play.folder / SEALED))
        play.console("copy", PARTITION, str(play.folder / COPY))
        copy = (play.folder / COPY).read_bytes()
        play.trusted_key_id = play.server.console.call(show_trusted_key()).id or ""
        play.stage.check(
            f"the system has trusted system key {play.trusted_key_id}", play.trusted_key_id != ""
        )
        keystore = play.server.console.call(show_partition(PARTITION)).keystore
        size = keystore.used_bytes if keystore else 0
        play.stage.check(f"step 9: the copy has {len(copy)} bytes, for {size} in use", len(copy) > size > 0)
        # Eight bytes are enough: 64 random bits do not occur by chance.
        clear = (play.late_secret[:8], play.disk_key[:8], play.trusted_key[:8])
        sealed = copy + (play.folder / SEALED).read_bytes()
        play.stage.check("neither file shows an object or the key", not any(each in sealed for each in clear))
        read = await play.chain.kernel.read(LATE_SECRET)
        play.stage.check("meanwhile the guest reads its object", read.data == play.late_secret)


def _words(flushed: bool) -> str:
    return "flushed" if flushed else "pending"
