"""A session of the door with passwords: a shell or a command, between an SSH channel and its processes."""

# asyncssh's own `process.redirect()` followed by `process.exit()` loses short outputs: the exit overtakes
# them.  So tasks of this module copy each stream, and the exit follows the last byte of the outputs.
#
# Without a terminal the process has three pipes, and the outputs stay apart.  With one, it has the other end
# of a pseudo-terminal, in a kernel session of its own, so that Ctrl-C and job control work.
#
# The end of a session has three causes, and one way: the process group of the session is killed, then the
# orphans (`children`).
#
#   1. The process ends.  Its remaining children would keep the pipes open, so they are ended first.
#   2. The client goes away.  The channel is closed then.
#   3. The door stops.

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import signal
import struct
import termios
from collections.abc import Awaitable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from hcall_server.machine.logs import Log
from swpks.hmc.sshd.children import REAP_SECONDS, end_orphans, reap
from swpks.hmc.sshd.shell import DoorPlaces, environment, words

if TYPE_CHECKING:
    import asyncssh

MAX_SESSIONS = 128
"""Sessions at once, over all connections."""
_CHUNK = 1 << 15
_FAILED = 255
"""Exit status of a session that could not begin, as of ssh."""
_SIGNALS = {"HUP", "INT", "QUIT", "TERM", "KILL", "USR1", "USR2", "ALRM", "PIPE"}
"""The signals of a client that reach its command (RFC 4254, 6.9)."""
_TERMINAL = ("/usr/bin/setsid", "--ctty")
"""Starts a program in a new kernel session, with its standard input as the controlling terminal."""

_log = Log()


class DoorSessions:
    """All sessions of the door."""

    def __init__(self, places: DoorPlaces) -> None:
        self._places = places
        self._own: set[int] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._starting = asyncio.Lock()

    async def run(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        """Serve a session to its end."""
        task = cast(asyncio.Task[Any], asyncio.current_task())
        if process.subsystem is not None:
            _refuse(process, "this door has no subsystem")
            return
        if len(self._tasks) >= MAX_SESSIONS:
            _refuse(process, f"this door has {MAX_SESSIONS} sessions already; try it again later")
            return
        self._tasks.add(task)
        try:
            await self._serve(process)
        except Exception as error:  # a failure of one session must not end the door
            _log.error("session.failed", exc_info=error)
            process.exit(_FAILED)
        finally:
            self._tasks.discard(task)

    async def end(self) -> None:
        """End every session."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def reap(self) -> None:
        """Collect ended processes of running sessions, until cancelled."""
        while True:
            await asyncio.sleep(REAP_SECONDS)
            async with self._starting:
                reap(self._own)

    async def _serve(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        # For `end_orphans`, a child that is not noted yet is an orphan: so a start and its note are one step.
        async with self._starting:
            try:
                running = await _started(process, self._places)
            except (OSError, ValueError) as error:  # the client's command is too long, or has a NUL
                _refuse(process, f"the command can't be started: {error}")
                return
            self._own.add(running.child.pid)
        try:
            await running.until_ended()
        finally:
            running.kill()
            await running.ended()
            # The orphans come first: `wait` of asyncio waits for the end of the pipes, which they hold open.
            async with self._starting:
                end_orphans(self._own)
            await running.child.wait()
            self._own.discard(running.child.pid)
            await running.flush()
            running.close()
        _exit(process, running.child.returncode)


async def _started(process: asyncssh.SSHServerProcess[bytes], places: DoorPlaces) -> Running:
    login = str(process.get_extra_info("username"))
    env = environment(places, login, process.term_type)
    command = words(places, process.command)
    if process.term_type is None:
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(
            *command, stdin=pipe, stdout=pipe, stderr=pipe, env=env, cwd=places.files, start_new_session=True
        )
        return PipedSession(process, child)
    master, slave = pty.openpty()
    try:
        _resize(master, process.term_size)
        child = await asyncio.create_subprocess_exec(
            *_TERMINAL, *command, stdin=slave, stdout=slave, stderr=slave, env=env, cwd=places.files
        )
    except BaseException:
        os.close(master)
        raise
    finally:
        os.close(slave)
    return TerminalSession(process, child, master)


class Running:
    """The process of a session and the tasks that copy its streams."""

    def __init__(self, process: asyncssh.SSHServerProcess[bytes], child: asyncio.subprocess.Process) -> None:
        self._process = process
        self.child = child
        self._outputs: list[asyncio.Task[None]] = []
        self._input = asyncio.create_task(self._copy_input())

    async def until_ended(self) -> None:
        """Wait until the process ends, or the client goes away."""
        waits = [asyncio.create_task(self.ended()), asyncio.create_task(self._process.wait_closed())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()

    async def ended(self) -> None:
        """Wait until the process itself has ended; others may still have its pipes."""
        try:
            process = os.pidfd_open(self.child.pid)
        except ProcessLookupError:  # it has ended, and asyncio has its status
            return
        try:
            await _ready(process, write=False)
        finally:
            os.close(process)

    def kill(self) -> None:
        """End all processes of the process group."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.child.pid, signal.SIGKILL)

    async def flush(self) -> None:
        """Send the rest of the outputs; the processes have ended."""
        self._input.cancel()
        await asyncio.gather(*self._outputs, return_exceptions=True)

    def close(self) -> None:
        """Stop copying."""
        for each in (self._input, *self._outputs):
            each.cancel()

    async def _copy_input(self) -> None:
        import asyncssh

        while True:
            try:
                data = await self._process.stdin.read(_CHUNK)
            except asyncssh.TerminalSizeChanged as change:
                self.resize((change.width, change.height, change.pixwidth, change.pixheight))
            except asyncssh.SignalReceived as received:
                self._signal(received.signal)
            except asyncssh.BreakReceived:
                pass
            except (asyncssh.Error, OSError):  # the client is gone; `until_ended` sees it
                return
            else:
                if not await self.feed(data):
                    return

    def _signal(self, name: str) -> None:
        if name in _SIGNALS:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.child.pid, signal.Signals[f"SIG{name}"])

    def feed(self, data: bytes) -> Awaitable[bool]:
        """Give input to the process, or its end if there is none; return whether it takes more."""
        raise NotImplementedError

    def resize(self, size: tuple[int, int, int, int]) -> None:
        """Tell the process the size of its terminal, if it has one."""


class PipedSession(Running):
    """A session without a terminal."""

    def __init__(self, process: asyncssh.SSHServerProcess[bytes], child: asyncio.subprocess.Process) -> None:
        super().__init__(process, child)
        for source, target in ((child.stdout, process.stdout), (child.stderr, process.stderr)):
            self._outputs.append(asyncio.create_task(_copy(cast(asyncio.StreamReader, source), target)))

    async def feed(self, data: bytes) -> bool:
        """Write to the pipe, or close it."""
        pipe = cast(asyncio.StreamWriter, self.child.stdin)
        with suppress(OSError):  # the process does not read its input
            if not data:
                pipe.close()
                return False
            pipe.write(data)
            await pipe.drain()
        return True


class TerminalSession(Running):
    """A session with a pseudo-terminal; `master` is its descriptor at this end."""

    def __init__(
        self,
        process: asyncssh.SSHServerProcess[bytes],
        child: asyncio.subprocess.Process,
        master: int,
    ) -> None:
        self._master = master
        os.set_blocking(master, False)
        super().__init__(process, child)
        self._outputs.append(asyncio.create_task(self._copy_output()))

    async def feed(self, data: bytes) -> bool:
        """Write to the terminal.  The end of the input is the character for it, Ctrl-D."""
        rest = memoryview(data or b"\x04")
        while rest:
            try:
                rest = rest[os.write(self._master, rest) :]
            except BlockingIOError:
                await _ready(self._master, write=True)
            except OSError:
                return False
        return bool(data)

    def resize(self, size: tuple[int, int, int, int]) -> None:
        """Set the size; the kernel sends SIGWINCH."""
        _resize(self._master, size)

    def close(self) -> None:
        """Stop copying, and close the terminal."""
        super().close()
        os.close(self._master)

    async def _copy_output(self) -> None:
        import asyncssh

        while True:
            try:
                data = os.read(self._master, _CHUNK)
            except BlockingIOError:
                await _ready(self._master, write=False)
                continue
            except OSError:  # EIO: no process has the terminal any more
                return
            try:
                self._process.stdout.write(data)
                await self._process.stdout.drain()
            except (asyncssh.Error, OSError):
                return


async def _ready(descriptor: int, *, write: bool) -> None:
    """Wait until a descriptor can be read or written."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    add, remove = (loop.add_writer, loop.remove_writer) if write else (loop.add_reader, loop.remove_reader)
    add(descriptor, done.set)
    try:
        await done.wait()
    finally:
        remove(descriptor)


async def _copy(source: asyncio.StreamReader, target: asyncssh.SSHWriter[bytes]) -> None:
    """Copy an output of the process to its channel; `drain` waits for a slow client."""
    import asyncssh

    with suppress(asyncssh.Error, OSError):
        while data := await source.read(_CHUNK):
            target.write(data)
            await target.drain()


def _resize(master: int, size: tuple[int, int, int, int]) -> None:
    width, height, pixel_width, pixel_height = (max(0, min(each, 0xFFFF)) for each in size)
    packed = struct.pack("HHHH", height, width, pixel_width, pixel_height)
    fcntl.ioctl(master, termios.TIOCSWINSZ, packed)


def _refuse(process: asyncssh.SSHServerProcess[bytes], reason: str) -> None:
    process.stderr.write(f"swpks hmc sshd: {reason}\n".encode())
    process.exit(_FAILED)


def _exit(process: asyncssh.SSHServerProcess[bytes], status: int | None) -> None:
    """Report the end of the process to the client."""
    if status is not None and status < 0:
        process.exit_with_signal(signal.Signals(-status).name.removeprefix("SIG"))
    else:
        process.exit(_FAILED if status is None else status)
