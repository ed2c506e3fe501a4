"""R-77: the watch of a boot from a disk: its stages, its console's last lines, and its time limits."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
import trio
import trio.testing

from swpks.qemu.boot import BOOT_LIMIT, KERNEL_LIMIT, LAST_LINES, BootStage, ConsoleTail, DiskBoot
from swpks.qemu.errors import OtherKernel
from tests.qemu.fake_slof import loader_image

GRUB = b"\x1b[2J\x1b[1;1HWelcome to GRUB!\r\n\r\n\x1b[37m\x1b[40merror: no such disk.\r\n"


def boot() -> DiskBoot:
    return DiskBoot(Path("boot.img"), Path("vmlinux"), loader_image())


def tail_of(*pieces: bytes) -> ConsoleTail:
    tail = ConsoleTail()
    for piece in pieces:
        tail.feed(piece)
    return tail


def test_the_last_lines_are_plain_text() -> None:
    """Escape sequences, empty lines and the prompt are left out, wherever the pieces are cut."""
    text = GRUB + b"grub> "
    for cut in range(len(text)):
        assert tail_of(text[:cut], text[cut:]).lines == ["Welcome to GRUB!", "error: no such disk."]


def test_only_the_last_lines_are_stored() -> None:
    """A loader that prints for ever costs no memory, with or without ends of lines."""
    tail = tail_of(*(b"line %d\n" % n for n in range(100)), b"x" * 100_000)
    assert tail.lines[0] == f"line {100 - LAST_LINES}"
    assert len(tail.lines[-1]) < 1000


@pytest.mark.parametrize(
    "end", [b"\r\n0 > ", b"\r\n12 > ", b"\r\ngrub> ", b"\r\ngrub rescue> ", b"\r\n\x1b[Kgrub> \x1b[7;7H"]
)
def test_a_prompt(end: bytes) -> None:
    assert tail_of(GRUB, end).prompts


@pytest.mark.parametrize("end", [b"", b"grub> ls", b"grub> \r\n", b"x0 > ", b"a grub> "])
def test_no_prompt(end: bytes) -> None:
    """A prompt stands alone on the last line: a command that a user types is no failure."""
    assert not tail_of(GRUB, end).prompts


async def test_a_prompt_ends_the_boot(autojump_clock: trio.testing.MockClock) -> None:
    """The boot fails at once, not after the time limit."""
    began, watched = trio.current_time(), boot()
    send, receive = trio.testing.memory_stream_one_way_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watched.read, receive)
        nursery.start_soon(watched.wait_failed)
        await trio.testing.wait_all_tasks_blocked()
        watched.enter(BootStage.LOADER)
        await send.send_all(GRUB + b"grub> ")
        await trio.testing.wait_all_tasks_blocked()
        await send.aclose()
    assert watched.failure == "it waits at a prompt"
    assert trio.current_time() == began


@pytest.mark.parametrize("stage", [BootStage.FIRMWARE, BootStage.LOADER])
async def test_a_boot_that_takes_too_long(autojump_clock: trio.testing.MockClock, stage: BootStage) -> None:
    """The limit ends a boot that waits in a menu, or in firmware."""
    began, watched = trio.current_time(), boot()

    async def reach() -> None:
        await trio.sleep(10)
        watched.enter(stage)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watched.wait_failed)
        if stage is not BootStage.FIRMWARE:
            nursery.start_soon(reach)
    assert watched.failure == f"it took longer than {BOOT_LIMIT:g} s"
    assert trio.current_time() - began == pytest.approx(BOOT_LIMIT)


async def test_a_kernel_that_never_starts(autojump_clock: trio.testing.MockClock) -> None:
    """A hand-over without a start of the kernel's file is an error that names the file."""
    began, watched = trio.current_time(), boot()
    watched.enter(BootStage.HANDED_OVER)
    with pytest.raises(OtherKernel, match="vmlinux"):
        await watched.wait_failed()
    assert trio.current_time() - began == pytest.approx(KERNEL_LIMIT)


@pytest.mark.parametrize("stage", [BootStage.FIRMWARE, BootStage.LOADER, BootStage.HANDED_OVER])
async def test_a_server_that_is_away(autojump_clock: trio.testing.MockClock, stage: BootStage) -> None:
    """The time in which the guest waits for its server counts for neither limit."""
    began, watched = trio.current_time(), boot()
    limit = KERNEL_LIMIT if stage is BootStage.HANDED_OVER else BOOT_LIMIT

    async def go_on() -> None:
        await trio.sleep(limit - 1)
        with watched.paused():
            await trio.sleep(3 * limit)

    async with trio.open_nursery() as nursery:
        watched.enter(stage)
        nursery.start_soon(go_on)
        with suppress(OtherKernel):
            await watched.wait_failed()
    assert trio.current_time() - began == pytest.approx(4 * limit)


async def test_a_running_kernel_has_no_limit(autojump_clock: trio.testing.MockClock) -> None:
    """A prompt of the kernel's shell that reads as GRUB's is no failure either."""
    watched = boot()
    watched.enter(BootStage.KERNEL)
    watched.tail.feed(b"\ngrub> ")
    with trio.move_on_after(100 * BOOT_LIMIT) as waited:
        await watched.wait_failed()
    assert waited.cancelled_caught


async def test_each_reset_begins_a_new_boot(autojump_clock: trio.testing.MockClock) -> None:
    """The limit counts from the last reset, and the lines of the boot before are forgotten."""
    began, watched = trio.current_time(), boot()
    watched.tail.feed(GRUB)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watched.wait_failed)
        await trio.sleep(BOOT_LIMIT - 1)
        watched.enter(BootStage.KERNEL)
        await trio.sleep(10)
        watched.enter(BootStage.FIRMWARE)
    assert trio.current_time() - began == pytest.approx(2 * BOOT_LIMIT + 9)
    assert watched.tail.lines == []
