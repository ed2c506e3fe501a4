"""An adapter in a thread of the test, connected by pipes: a mutant needs no new process."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from swpks.conformance.client.blocking_adapter import BlockingAdapter, serve_lines
from swpks.conformance.client.endpoint import Endpoint


class ThreadEndpoint(Endpoint):
    """A client in a thread. A thread cannot be killed; if its pipes and sockets are closed, it ends."""

    def __init__(self, make: Callable[[], BlockingAdapter]) -> None:
        commands_read, commands = os.pipe()
        reports, reports_written = os.pipe()
        super().__init__(commands, reports)
        self._thread = threading.Thread(
            target=_serve, args=(make(), commands_read, reports_written), daemon=True
        )
        self._thread.start()

    def fate(self) -> str:
        """Return the text for a thread that has ended."""
        return "the thread has ended"

    def end(self, *, kill: bool) -> None:
        """Close the pipes and wait for the thread, but only briefly if it hangs."""
        self.close()
        self._thread.join(0.2 if kill else 5)


def _serve(adapter: BlockingAdapter, commands: int, reports: int) -> None:
    try:
        with (
            os.fdopen(commands, encoding="utf-8") as given,
            os.fdopen(reports, "w", encoding="utf-8") as told,
        ):
            serve_lines(adapter, given, told)
    except BrokenPipeError:
        pass  # The judge no longer reads from this client.
    finally:
        adapter.close()
