"""The steps after the power cut: confirmed changes survived, and reads without the right are refused."""

from __future__ import annotations

import trio

from hcall_abi.consumers import Consumer
from hcall_abi.frames import GoodbyeReason
from hcall_abi.policies import Policy
from hcall_abi.statuses import Status
from hcall_client.calls import Authorization, read_object, remove_object, write_object
from hcall_client.errors import SessionEnded
from hcall_client.guests.kernel import LinuxKernel
from swpks.demo.disk import digest
from swpks.demo.first_ipl import (
    DISK_KEY,
    DISK_KEY_POLICY,
    FLOOR,
    PUBLIC_KEYS,
    ROLLBACK_FLOOR,
    SOON,
    boot_chain,
    make_public_key,
)
from swpks.demo.play import PARTITION, Play


async def lose_passwords(play: Play) -> None:
    """Start again; the old password is refused, and each consumer sets a new one."""
    shows = "Passwords are in hypervisor memory, for one IPL. A start loads the data in NVRAM only."
    with play.stage.step("The next IPL after the power failure: no password is set", shows):
        play.server.start()
        channel = await play.connect()
        play.stage.check(f"{PARTITION} is in IPL {channel.ipl_count}", channel.ipl_count == 2)
        # After a kexec, a kernel has the password of the kernel before it. This one has the password of the
        # last IPL, which must be refused.
        stale = await LinuxKernel.from_kexec(channel, play.chain.kernel.kexec())
        wanted = "reading the disk key with the password of the last IPL"
        await play.refused(wanted, stale.read(DISK_KEY), Status.H_AUTHORITY)
        attempt = channel.call(read_object(Authorization(Consumer.OPERATING_SYSTEM), DISK_KEY.label))
        wanted = "reading the key before its owner has set a password"
        await play.refused(wanted, attempt, Status.H_AUTHORITY, policy=Policy.PWSET)
        await boot_chain(play)
        play.stage.check("all three stages have set new ones", play.locked)


async def open_disk_again(play: Play) -> None:
    """Read the disk key, and open the disk that was written before the power cut."""
    shows = "Confirmed writes have survived. The disk opens and has the written data."
    with play.stage.step("The kernel gets its key back and opens the disk", shows):
        read = await play.chain.kernel.read(DISK_KEY)
        play.stage.check(f"the key is the same, SHA-256 {digest(read.data)}...", read.data == play.disk_key)
        plain = play.disk.read(read.data, len(play.note))
        play.stage.check("the disk opens and the note from before the power cut is there", plain == play.note)


async def read_public_keys(play: Play) -> None:
    """Check that the kernel can read the boot loader's public keys, and can't change them."""
    shows = "WORLDREADABLE: any consumer reads without a password. Only the owner writes or removes."
    with play.stage.step(
        "The boot loader's public keys: all consumers read them, only the owner changes them", shows
    ):
        read = await play.chain.kernel.read_boot_loader(PUBLIC_KEYS)
        play.stage.check(
            "the kernel reads them without a password", read == (play.public_key, Policy.WORLDREADABLE)
        )
        outsider = Authorization(Consumer.BOOT_LOADER)
        forged = write_object(outsider, PUBLIC_KEYS, make_public_key(), Policy.WORLDREADABLE)
        await play.refused("putting a forged key there", play.channel.call(forged), Status.H_AUTHORITY)
        removal = remove_object(outsider, PUBLIC_KEYS)
        await play.refused("removing the keys", play.channel.call(removal), Status.H_AUTHORITY)
        after = await play.chain.kernel.read_boot_loader(PUBLIC_KEYS)
        play.stage.check("the keys are unchanged", after == read)


async def keep_immutable(play: Play) -> None:
    """Check that the owner of an immutable object can't remove or replace it."""
    shows = (
        "IMMUTABLE: firmware stores its lowest permitted version, and cannot lower it even with a password."
    )
    with play.stage.step("An immutable object cannot be removed", shows):
        firmware = play.chain.firmware
        await play.refused(
            "removing the object, by its owner", firmware.remove(ROLLBACK_FLOOR), Status.H_AUTHORITY
        )
        # The status is H_RESOURCE and not H_AUTHORITY, because WRITE never replaces an object.
        attempt = firmware.write(ROLLBACK_FLOOR, b"\x00\x06")
        await play.refused("writing a lower version, by its owner", attempt, Status.H_RESOURCE)
        read = await firmware.read(ROLLBACK_FLOOR)
        play.stage.check("the object is unchanged", read == (FLOOR, Policy.IMMUTABLE))


async def switch_secure_boot_off(play: Play) -> None:
    """Switch secure boot off; READ of the disk key is refused, and returns the key's policy."""
    shows = "The console changes the mode for the next IPL. Without secure boot a kernel gets no disk key."
    with play.stage.step("Secure boot is switched off", shows):
        await _next_ipl(play, "off")
        await play.refused("reading the disk key", play.chain.kernel.read(DISK_KEY),
                           Status.H_AUTHORITY, policy=Policy.OSSECBOOTENFORCE)  # fmt: skip
        read = await play.chain.kernel.read_boot_loader(PUBLIC_KEYS)
        play.stage.check(
            "an object without such a policy can be read as before", read.data == play.public_key
        )


async def switch_secure_boot_on(play: Play) -> None:
    """Enforce secure boot again; the disk key can be read again."""
    shows = "The key was refused in the last IPL, but it is still stored."
    with play.stage.step("Secure boot is enforced again", shows):
        await _next_ipl(play, "enforce")
        read = await play.chain.kernel.read(DISK_KEY)
        play.stage.check("the kernel gets the disk key", read == (play.disk_key, DISK_KEY_POLICY))
        plain = play.disk.read(read.data, len(play.note))
        play.stage.check("the disk opens", plain == play.note)


async def _next_ipl(play: Play, secure_boot: str) -> None:
    """Set the secure-boot mode, restart the partition, and boot it."""
    before = play.channel.ipl_count
    play.console("secure-boot", PARTITION, secure_boot)
    play.console("ipl", PARTITION)
    with trio.move_on_after(SOON):
        await play.channel.wait_ended()
    ended = play.channel.ended
    by_ipl = isinstance(ended, SessionEnded) and ended.reason == GoodbyeReason.IPL_OR_POWER_OFF
    play.stage.check("the IPL ended the old session with GOODBYE 2", by_ipl)
    await play.connect()
    mode = play.partition(PARTITION).curr_secure_boot
    held = mode == secure_boot and play.channel.ipl_count == before + 1
    play.stage.check(f"IPL {play.channel.ipl_count} runs with secure boot {mode}", held)
    await boot_chain(play)
