"""A real swtpm for tests: on Unix sockets in the test's own folder, never on a port.

    with Swtpm(tmp_path / "tpm") as swtpm:
        tpm = SwtpmTpm(swtpm.path, "tpm")

The state outlives the process, as that of a TPM outlives a power cut.
"""

from __future__ import annotations

import os
import select
import shutil
import socket
import struct
import subprocess
from pathlib import Path
from typing import Self

from tests.debian.reporting import needed

OWNER, LOCKOUT, TRANSIENT = 0x40000001, 0x4000000A, 0x80000000
CHANGE_AUTH, CLEAR, GET_CAPABILITY, HANDLES = 0x129, 0x126, 0x17A, 1
PASSWORD = bytes.fromhex("40000009 0000 00 0000")
PATIENCE = 10
"""Seconds until a step of swtpm itself counts as hung; it takes milliseconds."""


class Swtpm:
    """A software TPM: the folder of its state, and its process while it runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = str(folder / "sock")
        self.tcti = f"swtpm:path={self.path}"
        self.log = folder / "log"
        self._pid = folder / "pid"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self, *, started_up: bool = True) -> Self:
        """Start the process on its state; wait until its sockets accept.

        If `started_up` is False, TPM2_Startup is not sent.
        """
        self.folder.mkdir(mode=0o700, exist_ok=True)
        program = needed("swtpm", shutil.which("swtpm"))
        for stale in (self.path, f"{self.path}.ctrl", self._pid):
            Path(stale).unlink(missing_ok=True)
        flags = "not-need-init,startup-clear" if started_up else "not-need-init"
        words = [program, "socket", "--tpm2", "--tpmstate", f"dir={self.folder},mode=0600"]
        words += ["--server", f"type=unixio,path={self.path}", "--ctrl", f"type=unixio,path={self.path}.ctrl"]
        words += ["--flags", flags, "--log", f"file={self.log},level=1", "--pid", f"file={self._pid}"]
        os.mkfifo(self._pid)
        listening = os.open(self._pid, os.O_RDONLY | os.O_NONBLOCK)
        try:
            self._process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            self._wait(self._process, listening)
        finally:
            os.close(listening)
        return self

    def stop(self) -> None:
        """Shut the TPM down in good order."""
        self._end(subprocess.Popen.terminate)

    def kill(self) -> None:
        """Kill the process, as a power cut would. Its sockets stay in the folder."""
        self._end(subprocess.Popen.kill)

    def restart(self) -> Self:
        """Kill the process, and start it on the same state."""
        self.kill()
        return self.start()

    def clear(self) -> None:
        """Give the TPM a new owner seed, as `tpm2_clear` does. It can't unseal older blobs any more."""
        self.ask(0x8002, CLEAR, struct.pack(">II", LOCKOUT, len(PASSWORD)) + PASSWORD)

    def own(self, password: bytes) -> None:
        """Set a password of the owner hierarchy, as `tpm2_changeauth -c owner` does."""
        sized = struct.pack(">H", len(password)) + password
        self.ask(0x8002, CHANGE_AUTH, struct.pack(">II", OWNER, len(PASSWORD)) + PASSWORD + sized)

    def loaded(self) -> int:
        """Return the number of transient objects in the TPM's memory."""
        answer = self.ask(0x8001, GET_CAPABILITY, struct.pack(">III", HANDLES, TRANSIENT, 16))
        more, kind, count = struct.unpack_from(">BII", answer)
        assert (more, kind) == (0, HANDLES)
        return int(count)

    def ask(self, tag: int, command: int, rest: bytes) -> bytes:
        """Send a command; return the bytes after the header of the answer."""
        with socket.socket(socket.AF_UNIX) as stream:
            stream.settimeout(PATIENCE)
            stream.connect(self.path)
            stream.sendall(struct.pack(">HII", tag, 10 + len(rest), command) + rest)
            with stream.makefile("rb") as answers:
                _, size, code = struct.unpack(">HII", answers.read(10))
                body: bytes = answers.read(size - 10)
        assert code == 0, f"{command:#x}: {code:#x}"
        return body

    def _wait(self, process: subprocess.Popen[bytes], listening: int) -> None:
        """Wait for the file with the process id, written when the sockets accept; raise if swtpm ends."""
        ended = os.pidfd_open(process.pid)
        try:
            if listening in select.select([listening, ended], [], [], PATIENCE)[0]:
                return
        finally:
            os.close(ended)
        self.kill()
        raise RuntimeError(f"swtpm did not start: {self.log.read_text('utf-8', 'replace')}")

    def _end(self, how) -> None:
        process, self._process = self._process, None
        if process:
            how(process)
            process.wait(PATIENCE)
