"""The events of a simulation, line by line, and the secrets that must not be on a wire."""

from __future__ import annotations

import base64

import trio

MARK = b"CANARY-"
"""All data and passwords of guests begin so: no wire and no answer may show it outside of a sealed blob."""


class Trace:
    """The lines of a simulation, and its clock of moments: no two of them are the same."""

    def __init__(self, *, kept: bool = True) -> None:
        self.lines: list[str] = []
        self.failures: list[str] = []
        """The promises that were broken, the first one first."""
        self.failed = trio.Event()
        self._kept = kept
        self._moment = 0
        self._began = trio.current_time()

    def __repr__(self) -> str:
        return f"Trace({len(self.lines)} lines)"

    def fail(self, text: str) -> None:
        """Note a broken promise.  It is no exception: the product would catch it, and go on."""
        self.note("FAILURE", text)
        self.failures.append(text)
        self.failed.set()

    def moment(self) -> int:
        """Return the next moment."""
        self._moment += 1
        return self._moment

    def note(self, who: str, text: str) -> None:
        """Add a line, with virtual time and moment."""
        if self._kept:
            self.lines.append(f"{trio.current_time() - self._began:10.4f} {self._moment:5} {who:10} {text}")


class Tap:
    """Listens on wires for secrets; `heard` counts the bytes."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._secrets: list[bytes] = [MARK, *in_base64(MARK)]
        self.heard = 0

    def __repr__(self) -> str:
        return f"Tap({self.heard} bytes heard)"

    def forbid(self, secret: bytes) -> None:
        """Name a further secret, such as an access key or a token."""
        self._secrets += [secret, secret.hex().encode(), *in_base64(secret)]

    def listen(self, where: str, data: bytes) -> None:
        """Take bytes of a wire; a secret in them is a failure."""
        self.heard += len(data)
        for number, secret in enumerate(self._secrets):
            if secret in data:
                self._trace.fail(f"secret {number} is on the wire: {where}")


def in_base64(secret: bytes) -> list[bytes]:
    """Return a secret in base64, at each of its three places, without the ends that its neighbours change."""
    texts = (base64.b64encode(b"\0" * n + secret) for n in range(3))
    return [text[-(-8 * n // 6) : 8 * (n + len(secret)) // 6] for n, text in enumerate(texts)]
