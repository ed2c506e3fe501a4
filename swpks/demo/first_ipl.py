"""The steps of the first IPL: each stage locks its objects, the kernel encrypts a disk, the power fails."""

from __future__ import annotations

import os
import secrets
import stat
import time
from collections.abc import Awaitable, Callable

import trio
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hcall_abi.consumers import Consumer
from hcall_abi.policies import Policy, describe
from hcall_abi.statuses import Status
from hcall_client.calls import Authorization, read_object, set_password
from hcall_client.channel import open_channel
from hcall_client.errors import ConnectionLost
from hcall_client.guests.boot import boot
from hcall_client.guests.boot_loader import BootLoader
from hcall_client.guests.firmware import PartitionFirmware
from hcall_client.guests.kernel import LinuxKernel, Name
from swpks.demo.best_disk import make_disk
from swpks.demo.disk import WrongKeyError, digest
from swpks.demo.play import NEIGHBOUR, PARTITION, Play

DISK_KEY = Name("demo", "disk-key")
DISK_KEY_POLICY = Policy.OSSECBOOTENFORCE | Policy.PWSET
"""Readable only while secure boot is enforced, and only after the kernel has set its password."""
NEIGHBOURS_OBJECT = Name("demo", "neighbour")
NEIGHBOURS_DATA = b"the neighbour's own"
ROLLBACK_FLOOR = b"ROLLBACK_FLOOR"
"""An immutable object of firmware: the oldest release that may still be started."""
FLOOR = b"\x00\x07"
PUBLIC_KEYS = b"grubdb"
"""The boot loader's public keys, which every stage may read."""
PRIVATE = {Consumer.FIRMWARE: b"FIRMWARE_STATE", Consumer.BOOT_LOADER: b"BOOT_STATE"}
"""Private objects of firmware and boot loader."""
_PRIVATE_DATA = {
    Consumer.FIRMWARE: b"for firmware's eyes",
    Consumer.BOOT_LOADER: b"for the boot loader's eyes",
}

SOON = 5.0
"""Seconds to wait for an event that should follow at once."""


async def power_on(play: Play) -> None:
    """Start the server, which starts its two partitions."""
    shows = "One process is a managed system. Each partition has a private Unix socket, which identifies it."
    with play.stage.step("The machine is switched on", shows):
        began = time.monotonic()
        play.server.start()
        seconds = time.monotonic() - began
        play.stage.say(f"process {play.server.pid} was ready after {seconds:.2f} s")
        sockets = [play.server.socket(name) for name in (PARTITION, NEIGHBOUR)]
        modes = {stat.S_IMODE(path.stat().st_mode) for path in sockets}
        private = modes == {0o600} and stat.S_IMODE(sockets[0].parent.stat().st_mode) == 0o700
        play.stage.check("no other user may open the sockets (mode 0600 in a folder of mode 0700)", private)
        channel = await play.connect()
        play.stage.check(
            f"{PARTITION} answers: {channel.level}, IPL {channel.ipl_count}", channel.ipl_count == 1
        )
        play.stage.check(
            f"{PARTITION} has enforced secure boot", play.partition(PARTITION).curr_secure_boot == "enforce"
        )


async def lock_all_stages(play: Play) -> None:
    """Boot: firmware, boot loader and kernel each store objects and set a password."""
    shows = (
        "Firmware, boot loader and kernel store objects. Each sets a password before the next stage starts."
    )
    with play.stage.step("First IPL: every stage locks its objects", shows):
        play.public_key = make_public_key()
        await boot_chain(play)
        play.stage.check("firmware, boot loader and kernel each set a password", play.locked)
        for consumer in Consumer:
            again = play.channel.call(set_password(consumer, secrets.token_bytes(32)))
            await play.refused(f"setting another password for the {words(consumer)}", again, Status.H_IN_USE)
        for owner, label in PRIVATE.items():
            for password, whose in ((b"", "no password"), (secrets.token_bytes(32), "a wrong password")):
                # The server checks no password and a wrong password in different ways.  Both checks have to
                # refuse.
                attempt = play.channel.call(read_object(Authorization(owner, password), label))
                await play.refused(
                    f"reading an object of the {words(owner)} with {whose}", attempt, Status.H_AUTHORITY
                )


async def make_disk_key(play: Play) -> None:
    """Make a key, store it under a secure-boot policy, and wait until it is durable."""
    shows = (
        "The kernel's driver writes the key. Then it polls until the hypervisor confirms that NVRAM has it."
    )
    with play.stage.step("The kernel makes a disk key and stores it", shows):
        play.disk_key = secrets.token_bytes(64)
        before = await play.chain.kernel.used_space()
        began = time.monotonic()
        await play.chain.kernel.write(DISK_KEY, play.disk_key, DISK_KEY_POLICY)
        milliseconds = (time.monotonic() - began) * 1000
        used = await play.chain.kernel.used_space() - before
        play.stage.say(
            f"64 random bytes, SHA-256 {digest(play.disk_key)}..., policy {describe(DISK_KEY_POLICY)}"
        )
        play.stage.say(f"the hypervisor confirmed it after {milliseconds:.0f} ms")
        keystore = play.partition(PARTITION).keystore
        flushed = keystore is not None and keystore.flushed == keystore.generation
        play.stage.check("the console reports: all changes are in NVRAM", flushed)
        play.stage.check(f"GET_CONFIG reports {used} more bytes in use", used > len(play.disk_key))
        read = await play.chain.kernel.read(DISK_KEY)
        play.stage.check("READ returns the key as it was written", read == (play.disk_key, DISK_KEY_POLICY))


async def encrypt_disk(play: Play) -> None:
    """Encrypt a disk with the key, and write to the disk."""
    shows = "The key is in no command line and in no file. The disk gets it through a pipe."
    with play.stage.step("The kernel encrypts a disk with the key", shows):
        play.disk, why = make_disk(play.disk_path, play.disk_key)
        play.stage.say(f"the disk is {play.disk.kind}, because {why}")
        play.disk.write(play.disk_key, play.note)
        play.stage.check(
            "the written data reads back", play.disk.read(play.disk_key, len(play.note)) == play.note
        )
        play.stage.check(
            "the file does not contain the data in clear", play.note[:16] not in play.disk_path.read_bytes()
        )
        play.stage.check("another key does not open the disk", not _opens(play, secrets.token_bytes(64)))


async def isolate_neighbour(play: Play) -> None:
    """Check that neither of two partitions can read an object of the other."""
    shows = "Each partition has its own store under its own key. It cannot find objects of other partitions."
    with play.stage.step("The neighbour cannot read the key", shows):
        async with open_channel(play.server.socket(NEIGHBOUR), name="demo") as channel:
            kernel = LinuxKernel(channel)
            await kernel.init()
            await kernel.write(NEIGHBOURS_OBJECT, NEIGHBOURS_DATA)
            await play.refused(
                f"reading the disk key from {NEIGHBOUR}", kernel.read(DISK_KEY), Status.H_NOT_FOUND
            )
        attempt = play.chain.kernel.read(NEIGHBOURS_OBJECT)
        await play.refused(f"reading {NEIGHBOUR}'s object from {PARTITION}", attempt, Status.H_NOT_FOUND)


async def cut_power(play: Play) -> None:
    """Kill the server with SIGKILL, and check that no object is in clear in its files."""
    shows = "SIGKILL ends the server without a flush. Only the data in NVRAM is left."
    with play.stage.step("The power fails (kill -9)", shows):
        pid = play.server.pid or 0
        play.server.kill()
        with trio.move_on_after(SOON):
            await play.channel.wait_ended()
        play.stage.check(f"process {pid} is dead, its sessions have ended",
                         not _alive(pid) and isinstance(play.channel.ended, ConnectionLost))  # fmt: skip
        # All files of the folder are read: SQLite has a journal beside the database.
        files = sorted(play.nvram.parent.iterdir())
        written = b"".join(path.read_bytes() for path in [*files, play.server.log_path])
        # The hexadecimal form is searched too: a log would show bytes in this form.
        found = [each for each in _contents(play) if each in written or each.hex().encode() in written]
        names = ", ".join(path.name for path in files)
        play.stage.check(f"no object is in clear in {names} or the log", bool(files) and not found)


def words(consumer: Consumer) -> str:
    """Return the name of a consumer for output, such as "boot loader"."""
    return consumer.name.lower().replace("_", " ")


async def boot_chain(play: Play) -> None:
    """Boot firmware, boot loader and kernel in the open session.

    A stage makes only the objects that do not exist yet.
    """
    play.chain = await boot(play.channel, firmware=_firmware, boot_loader=_boot_loader(play.public_key))


def make_public_key() -> bytes:
    """Return a new public key in DER; its private key is not used."""
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


async def _firmware(firmware: PartitionFirmware) -> None:
    await firmware.store_sb_version()
    await firmware.provide(ROLLBACK_FLOOR, FLOOR, Policy.IMMUTABLE)
    await firmware.provide(PRIVATE[Consumer.FIRMWARE], _PRIVATE_DATA[Consumer.FIRMWARE])


def _boot_loader(public_key: bytes) -> Callable[[BootLoader], Awaitable[None]]:
    async def run(boot_loader: BootLoader) -> None:
        await boot_loader.publish_key(PUBLIC_KEYS, public_key)
        await boot_loader.provide(PRIVATE[Consumer.BOOT_LOADER], _PRIVATE_DATA[Consumer.BOOT_LOADER])

    return run


def _contents(play: Play) -> tuple[bytes, ...]:
    """Return bytes that occur only in the stored objects."""
    # The search is for the end of the public key: all keys of this kind begin with the same bytes in DER.
    return (play.disk_key[:8], play.public_key[-8:], *_PRIVATE_DATA.values(), NEIGHBOURS_DATA)


def _opens(play: Play, key: bytes) -> bool:
    try:
        play.disk.read(key, 1)
    except WrongKeyError:
        return False
    return True


def _alive(pid: int) -> bool:
    try:
        # Signal 0 sends nothing; it only checks that the process exists.
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
