"""The trace of a simulation, line by line, and the tap that searches its wires for secrets."""

from __future__ import annotations

import base64

import trio

MARK = b"CANARY-"
"""The first bytes of all data and passwords of guests: no wire may show them."""


class Trace:
    """The lines of a simulation, its broken promises, and its moments, which are numbered from 1."""

    # The calls of a history are ordered by moments, not by the virtual time. Many steps have the same time.
    # But for any two calls it must be known which comes first, or that they overlap.

    def __init__(self, *, kept: bool = True) -> None:
        self.lines: list[str] = []
        self.failures: list[str] = []
        """The broken promises, in their order."""
        self.failed = trio.Event()
        self._kept = kept
        self._moment = 0
        self._began = trio.current_time()

    def __repr__(self) -> str:
        return f"Trace({len(self.lines)} lines)"

    def fail(self, text: str) -> None:
        """Note a broken promise.

        It is not raised as an exception: the product might catch the exception and go on.
        """
        self.note("FAILURE", text)
        self.failures.append(text)
        self.failed.set()

    def moment(self) -> int:
        """Return the next moment; each call returns a larger number."""
        self._moment += 1
        return self._moment

    def note(self, who: str, text: str) -> None:
        """Add a line with the virtual time in seconds, the last moment, and the name of the part `who`."""
        if self._kept:
            self.lines.append(f"{trio.current_time() - self._began:10.4f} {self._moment:5} {who:10} {text}")


class Tap:
    """Searches the bytes on the wires for secrets; `heard` is the number of bytes so far."""

    # A secret that is split between two sends is not found. The product sends whole frames and whole bodies.

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._secrets: list[bytes] = [MARK, *in_base64(MARK)]
        self.heard = 0

    def __repr__(self) -> str:
        return f"Tap({self.heard} bytes heard)"

    def forbid(self, secret: bytes) -> None:
        """Add a secret, such as an access key or a token, to those that no wire may show."""
        # The hexadecimal and base64 forms count too: bodies of the control channel are JSON.
        self._secrets += [secret, secret.hex().encode(), *in_base64(secret)]

    def listen(self, where: str, data: bytes) -> None:
        """Search bytes of a wire; a secret in the bytes is a broken promise."""
        self.heard += len(data)
        for number, secret in enumerate(self._secrets):
            if secret in data:
                self._trace.fail(f"secret {number} is on the wire: {where}")


def in_base64(secret: bytes) -> list[bytes]:
    """Return the three texts that a secret may become inside a longer text in base64."""
    # Base64 makes 4 characters of 3 bytes. So the text depends on the offset of the secret modulo 3. The
    # first and the last characters may share bits with neighbours, and are left out.
    texts = (base64.b64encode(b"\0" * n + secret) for n in range(3))
    return [text[-(-8 * n // 6) : 8 * (n + len(secret)) // 6] for n, text in enumerate(texts)]
