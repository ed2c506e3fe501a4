"""A console for tests of the small client: it sends the messages of the test."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from swpks.hmc import line_client

Message = dict[str, Any]


class FakeConsole:
    """A console that sends the messages of the test, and stores the messages it receives."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self.heard: list[Message] = []
        self._listener = socket.socket(socket.AF_UNIX)
        (store / "run").mkdir(parents=True)
        self._listener.bind(str(store / line_client.SOCKET))
        self._listener.listen()

    @contextmanager
    def saying(self, *messages: Message | bytes, after: threading.Event | None = None) -> Iterator[None]:
        """For a block, serve one connection: send each message, and receive a reply to each question.

        The console sends nothing before `after` is set.
        """
        thread = threading.Thread(target=self._serve, args=(messages, after))
        thread.start()
        yield
        thread.join(20)
        self._listener.close()

    def _serve(self, messages: tuple[Message | bytes, ...], after: threading.Event | None) -> None:
        connection, _ = self._listener.accept()
        if after:
            after.wait(20)
        with connection, suppress(BrokenPipeError, ConnectionResetError):
            # A client that cannot print closes the connection before the last message.
            self._converse(connection, messages)

    def _converse(self, connection: socket.socket, messages: tuple[Message | bytes, ...]) -> None:
        with connection.makefile("rwb") as stream:
            self.heard.append(json.loads(stream.readline()))
            for message in messages:
                raw = message if isinstance(message, bytes) else json.dumps(message).encode() + b"\n"
                stream.write(raw)
                stream.flush()
                if isinstance(message, dict) and {"read", "write", "test"} & set(message):
                    self.heard.append(json.loads(stream.readline()))


def run(fake: FakeConsole, words: list[str], *messages: Message | bytes) -> int:
    """Run a line at this console; return its exit status."""
    with fake.saying(*messages):
        return line_client.line(words, str(fake.store))
