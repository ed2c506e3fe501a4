"""The progress of a boot from a disk, the guest's serial output, and the signs of a failed boot.

A loader that refuses a kernel ends at a prompt, in a menu, or in a power-off.  A prompt waits for a user for
ever.  So the command ends a boot that has failed (spec/qemu.md#a-boot-that-fails), and prints the loader's
last lines.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

import trio

from swpks.qemu.bootdisk import DiskLoader
from swpks.qemu.errors import OtherKernel

BOOT_LIMIT = 120.0
"""Seconds from a reset to the hand-over.  A good boot takes 8 s on an idle machine with two processors."""
KERNEL_LIMIT = 30.0
"""Seconds from the hand-over to `early_setup`.  The kernel only copies itself, which takes 0.1 s."""
LAST_LINES = 12
"""Lines of the serial line that are kept for a report."""
LONGEST_LINE = 512
"""Characters of a line that are kept; a loader may print without an end of line."""

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|[\x00-\x08\x0b-\x1f\x7f]")
_PROMPT = re.compile(r"(?:\d+ |grub|grub rescue)>")
"""A line with a prompt and nothing else: of SLOF (with the depth of its stack), or of GRUB."""


class BootStage(IntEnum):
    """How far a boot is."""

    FIRMWARE = 0
    LOADER = 1
    HANDED_OVER = 2
    KERNEL = 3


class ConsoleTail:
    """The last lines that a guest has printed on its serial line."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=LAST_LINES)
        self._line = ""

    def feed(self, data: bytes) -> None:
        """Add the next bytes of the serial line."""
        *ended, rest = (self._line + data.decode("latin-1")).split("\n")
        self._lines.extend(filter(None, map(_plain, ended)))
        self._line = rest[-LONGEST_LINE:]

    def clear(self) -> None:
        """Forget all lines."""
        self._lines.clear()
        self._line = ""

    @property
    def lines(self) -> list[str]:
        """The last lines, without escape sequences and empty lines; a prompt is not among them."""
        last = _plain(self._line)
        return [*self._lines, *([] if not last or _PROMPT.fullmatch(last) else [last])]

    @property
    def in_line(self) -> bool:
        """Whether the guest has printed text after its last end of line."""
        return bool(_plain(self._line))

    @property
    def prompts(self) -> bool:
        """Whether the last text of the guest is a prompt of SLOF or GRUB."""
        return bool(_PROMPT.fullmatch(_plain(self._line)))


def _plain(line: str) -> str:
    return _ESCAPES.sub("", line)[-LONGEST_LINE:].strip()


def _silent(_sentence: str) -> None:
    pass


@dataclass
class DiskBoot:
    """A boot from `disk`, whose loader is to start the kernel of the file `kernel`.

    `limit` is the most time in seconds from a reset to the hand-over.  With `lock_boot_loader`, firmware
    also locks the second consumer at the hand-over.  `notify` gets sentences for the user.  `failure` is
    the reason why the boot has failed, or empty.
    """

    disk: Path
    kernel: Path
    loader: DiskLoader
    limit: float = BOOT_LIMIT
    lock_boot_loader: bool = False
    notify: Callable[[str], None] = _silent
    tail: ConsoleTail = field(default_factory=ConsoleTail)
    stage: BootStage = BootStage.FIRMWARE
    failure: str = ""
    console_ended: trio.Event = field(default_factory=trio.Event)
    _changed: trio.Event = field(default_factory=trio.Event)
    _began: float = -math.inf
    _entered: float = -math.inf
    _paused: bool = False

    def enter(self, stage: BootStage) -> None:
        """Note a stage of the boot; a new boot begins with FIRMWARE."""
        # The lines of the last stage are deleted.  Firmware prints a long licence, which would push the
        # loader's lines out of the report.
        self.tail.clear()
        if stage is BootStage.FIRMWARE:
            self._began = trio.current_time()
        self._entered = trio.current_time()
        self.stage = stage
        self._wake()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the clock of the time limits for the length of a block.

        The guest stands still in it and waits for the partition's server, which may be away.
        """
        since, self._paused = trio.current_time(), True
        self._wake()
        try:
            yield
        finally:
            away = trio.current_time() - since
            self._began, self._entered, self._paused = self._began + away, self._entered + away, False
            self._wake()

    async def read(self, console: trio.abc.ReceiveStream) -> None:
        """Read a copy of the guest's serial output, until QEMU closes it.

        The caller must read all the time.  If the pipe is full, QEMU stops the guest and waits.
        """
        async with console:
            async for data in console:
                self.tail.feed(bytes(data))
                if self.tail.prompts:
                    self._wake()
        self.console_ended.set()

    def fail(self, reason: str) -> None:
        """Note why the boot has failed."""
        self.failure = self.failure or reason

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def wait_failed(self) -> None:
        """Return when the boot has failed.

        OtherKernel if the boot loader has handed over, but no kernel of the file `kernel` runs in time.
        """
        self._began = trio.current_time()
        while True:
            with trio.move_on_at(self._deadline()) as limit:
                await self._wait_change(self.stage)
            if limit.cancelled_caught:
                if self.stage is BootStage.HANDED_OVER:
                    raise OtherKernel(self.kernel)
                self.fail(f"it took longer than {self.limit:g} s")
            if self.failure:
                return

    def _deadline(self) -> float:
        if self._paused:
            return math.inf
        if self.stage is BootStage.HANDED_OVER:
            return self._entered + KERNEL_LIMIT
        return self._began + self.limit if self.stage < BootStage.HANDED_OVER else math.inf

    async def _wait_change(self, stage: BootStage) -> None:
        """Wait until the boot has another stage, its clock stops or goes on, or it has failed at a prompt."""
        paused = self._paused
        while self.stage is stage and self._paused is paused and not self.failure:
            if stage < BootStage.HANDED_OVER and self.tail.prompts:
                self.fail("it waits at a prompt")
            else:
                await self._changed.wait()
