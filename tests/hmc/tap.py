"""A tap between a console and a system: it records every byte, and can stop the traffic at a request.

tap = Tap(tmp_path
"tap.sock", server.control_socket)
tap.hold(b"POST /v1/copies ", 2)           # the second request of this kind is held
tap.held.wait(20)
console.kill()
tap.release()
"""

from __future__ import annotations

import socket
import threading
from contextlib import closing, suppress
from pathlib import Path


class Tap:
    """Listens at `path` and passes each connection on to `target`.

    `noted` has all bytes of both directions.
    """

    def __init__(self, path: Path, target: Path) -> None:
        self.path = path
        self.held = threading.Event()
        """Set when the request at which the traffic stops has come."""
        self._noted = bytearray()
        self._target = target
        self._free = threading.Event()
        self._hold: tuple[bytes, int, bool] | None = None
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def noted(self) -> bytes:
        """Return all bytes so far, of both directions."""
        return bytes(self._noted)

    def hold(self, request: bytes, nth: int = 1, *, answered: bool = False) -> None:
        """Hold the nth request from now on that begins with these bytes.

        If `answered` is True, hold the answer to this request instead.
        """
        self.held.clear()
        self._free.clear()
        self._hold = request, nth, answered

    def release(self) -> None:
        """End the connection of the held request, and hold no other request."""
        self._hold = None
        self._free.set()

    def close(self) -> None:
        """Close the listener."""
        self.release()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        # The accept fails when the tap is closed. Then this thread ends.
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.socket(socket.AF_UNIX)
                try:
                    far.connect(str(self._target))
                except OSError:  # no system listens
                    near.close()
                    far.close()
                    continue
                _Connection(self, near, far)

    def pass_on(self, data: bytes) -> None:
        """Record bytes."""
        self._noted += data

    def demand_answer(self, request: bytes) -> bool | None:
        """Count a request.

        Return False if the request is to be held, True if its answer is to be held, else None.
        """
        if self._hold is None or not request.startswith(self._hold[0]):
            return None
        wanted, nth, answered = self._hold
        self._hold = (wanted, nth - 1, answered) if nth > 1 else None
        return answered if nth == 1 else None

    def wait(self) -> None:
        """Report that a request is held, and wait for the release."""
        self.held.set()
        self._free.wait(60)


class _Connection:
    """Two threads that pass bytes on."""

    def __init__(self, tap: Tap, near: socket.socket, far: socket.socket) -> None:
        self._tap, self._near, self._far = tap, near, far
        self._hold_answer = False
        for work in (self._requests, self._answers):
            threading.Thread(target=work, daemon=True).start()

    def _requests(self) -> None:
        with closing(self._far), suppress(OSError):
            while data := self._near.recv(1 << 20):
                self._tap.pass_on(data)
                held = self._tap.demand_answer(data)
                if held is False:
                    self._tap.wait()
                    break
                # The mark is set before the request is sent, because the answer may come at once.
                self._hold_answer = self._hold_answer or held is True
                self._far.sendall(data)
            self._end()

    def _answers(self) -> None:
        with closing(self._near), suppress(OSError):
            while data := self._far.recv(1 << 20):
                self._tap.pass_on(data)
                if self._hold_answer:
                    self._tap.wait()
                    break
                self._near.sendall(data)
            self._end()

    def _end(self) -> None:
        for each in (self._near, self._far):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
