"""An HTTP transport whose time-outs are those of whole requests: `TotalTimeouts`."""

# httpx gives each read, write and connection the whole time-out again.  Its public interface has no place to
# change that: the header of an answer is read before the caller gets control.  So this module replaces the
# network of httpx's connection pool, which is not public.  A release of httpx that renames it fails in tests.

from __future__ import annotations

import socket
import ssl
import time
from typing import Any, NoReturn

import httpx


class TotalTimeouts(httpx.HTTPTransport):
    """A transport for one thread.  The time-out of a request is that of all of it, with its whole answer."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(verify=context, trust_env=False)
        self._until = 0.0
        pool: Any = self._pool
        pool._network_backend = _TimedBackend(pool._network_backend, self)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Begin the time of a request, and send it; the time goes on until its answer is read."""
        self._until = time.monotonic() + request.extensions["timeout"]["read"]
        return super().handle_request(request)

    @property
    def left(self) -> float:
        """The rest of the present request's time in seconds; httpx.ReadTimeout if there is none."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise httpx.ReadTimeout("no whole answer in time")
        return left


class _TimedBackend:
    """The network of a pool; its streams take their time-outs from `timer`."""

    def __init__(self, inner: Any, timer: TotalTimeouts) -> None:
        self._inner = inner
        self._timer = timer

    def connect_tcp(self, host: str, port: int, timeout: float | None = None, **options: Any) -> _TimedStream:
        """Connect, in the rest of the time."""
        stream = self._inner.connect_tcp(host, port, timeout=self._timer.left, **options)
        return _TimedStream(stream, self._timer)


class _TimedStream:
    """A connection whose reads and writes end with the request's time."""

    def __init__(self, inner: Any, timer: TotalTimeouts) -> None:
        self._inner = inner
        self._timer = timer

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return the next bytes."""
        found: bytes = self._inner.read(max_bytes, timeout=self._timer.left)
        return found

    def write(self, data: bytes, timeout: float | None = None) -> None:
        """Send bytes; a peer that takes them slowly does not get the time anew for each part."""
        sock = self._inner.get_extra_info("socket")
        view = memoryview(data)
        while view:
            sock.settimeout(self._timer.left)
            try:
                view = view[sock.send(view) :]
            except OSError as error:
                _raise_broken(sock, error)

    def close(self) -> None:
        """Close the connection."""
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> _TimedStream:
        """Return the connection with TLS."""
        inner = self._inner.start_tls(ssl_context, server_hostname, self._timer.left)
        return _TimedStream(inner, self._timer)

    def get_extra_info(self, info: str) -> Any:
        """Return a fact about the connection."""
        return self._inner.get_extra_info(info)


def _raise_broken(sock: socket.socket, error: OSError) -> NoReturn:
    """Raise httpx.WriteError for a failed write; its context is the alert of a TLS peer, if there is one."""
    # In TLS 1.3 a peer refuses a client's certificate after the handshake.  So a write meets the closed
    # connection, and the reason still waits to be read.
    try:
        if isinstance(sock, ssl.SSLSocket):
            sock.settimeout(0)
            sock.recv(1)
    except (ssl.SSLWantReadError, ssl.SSLEOFError):
        pass
    except ssl.SSLError as alert:
        raise httpx.WriteError(str(alert)) from alert
    except OSError:
        pass
    raise httpx.WriteError(str(error) or type(error).__name__) from None
