"""Steps that restore the copies: they open only after the operator has set the trusted system key again."""

from __future__ import annotations

from hcall_client.console import show_system, show_trusted_key
from swpks.demo.copies import COPY, KEY, LATE_SECRET, SEALED
from swpks.demo.parts import secret_is_there
from swpks.demo.play import NEIGHBOUR, PARTITION, Play


async def refuse_copies(play: Play) -> None:
    """Check that no restore works without the operator's key, which was lost with the root key."""
    shows = "The trusted system key was sealed under the root key that Clear All has destroyed."
    with play.stage.step("The old copy does not open", shows):
        key_id = play.server.console.call(show_trusted_key()).id
        play.stage.check(f"the new system has {key_id or 'no trusted system key'}", key_id is None)
        play.console("recover", "--begin")
        state = play.server.console.call(show_system()).state
        play.stage.check(f"the state is {state}", state == "Recovery")
        copy, sealed = str(play.folder / COPY), str(play.folder / SEALED)
        play.console_refused("the copy is refused", "trusted-key.set", "restore", copy)
        play.console_refused(
            "the sealed blob of the key is refused",
            "trusted-key.sealed",
            "chtskey",
            "-o",
            "return",
            "--sealed",
            sealed,
        )


async def restore_copies(play: Play) -> None:
    """Set the key from the operator's file, and restore the copy; the guest must read its secrets."""
    shows = "The operator has a file of the trusted system key, and sets this key again."
    with play.stage.step("The store is restored with the operator's key", shows):
        play.console("chtskey", "-o", "restore", "--newkey", str(play.folder / KEY))
        key_id = play.server.console.call(show_trusted_key()).id
        play.stage.check(f"the trusted system key is {key_id} again", key_id == play.trusted_key_id)
        play.console("restore", str(play.folder / COPY))
        play.console("recover")
        system = play.server.console.call(show_system())
        names = [each.name for each in system.partitions]
        play.stage.check(f"the state is {system.state}, with {' '.join(names)} only: {NEIGHBOUR} had no copy",
                         system.state == "Operating" and names == [PARTITION])  # fmt: skip
        same = play.server.access_key(PARTITION) == play.access_key
        play.stage.check(f"the access key of {PARTITION} is that of before", same)
        await secret_is_there(play)
        late = await play.chain.kernel.read(LATE_SECRET)
        play.stage.check(
            "the secret that was written before the copy is there", late.data == play.late_secret
        )
        plain = play.disk.read(play.disk_key, len(play.note))
        play.stage.check("the disk opens and has the written data", plain == play.note)
