"""Listens for browsers, and ends their connections: bounds, and a stop that waits for no browser."""

from __future__ import annotations

import math

import trio

from hcall_server.control_channel.http import Http
from hcall_server.data_channel.sockets import listen_tcp
from hcall_server.machine.logs import Log
from swpks.hmc.accepting import next_connection
from swpks.hmc.lookout import Lookout
from swpks.hmc.page.app import MAX_VIEWERS, PageApp
from swpks.hmc.page.place import PagePlace
from swpks.hmc.page.rendering import Rendering

MAX_CONNECTIONS = MAX_VIEWERS + 32
"""Connections at once; one more ends the oldest that is no live page."""

LIFETIME_SECONDS = 30.0
"""Seconds of the longest life of a connection that is no live page."""

GRACE_SECONDS = 0.5
"""Seconds for the ends of streams when the console stops."""

_log = Log()


class PageListener:
    """The page at a place: listens from the beginning, and serves while `run` runs.

    OperatorError if the place can't be listened at, or if a package is missing.
    """

    def __init__(self, place: PagePlace) -> None:
        self._place = place
        self._rendering = Rendering()
        self._socket = listen_tcp(place.host, place.port)
        self._scopes: list[trio.CancelScope] = []
        self._deadline = math.inf

    def __repr__(self) -> str:
        return f"PageListener({self.url})"

    @property
    def url(self) -> str:
        """The URL of the page."""
        return self._place.at(self._socket.getsockname()[1])

    def close(self) -> None:
        """Close the listening socket."""
        self._socket.close()

    async def run(
        self, lookout: Lookout, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve the page until cancelled; open streams end then."""
        app = PageApp(lookout, self._place, self._rendering)
        http = Http(app)
        async with trio.open_nursery() as connections:
            task_status.started()
            try:
                while True:
                    stream = await next_connection(self._socket, "page.not_accepted")
                    self._make_room()
                    connections.start_soon(self._serve, http, stream)
            finally:
                # The socket is closed first: a browser that connects again must not wait in its queue.
                self.close()
                app.stop()
                await http.stop()
                self._deadline = trio.current_time() + GRACE_SECONDS
                for scope in self._scopes:
                    scope.deadline = min(scope.deadline, self._deadline)

    def _make_room(self) -> None:
        """End the oldest connection that is no live page, if there are too many."""
        # A cancelled connection needs a moment to end.  In a burst it must not be chosen again.
        alive = [each for each in self._scopes if not each.cancel_called]
        others = [each for each in alive if each.deadline < math.inf]
        if len(alive) >= MAX_CONNECTIONS and others:
            others[0].cancel()

    async def _serve(self, http: Http, stream: trio.SocketStream) -> None:
        lifetime = min(trio.current_time() + LIFETIME_SECONDS, self._deadline)
        # The stop cancels the nursery, and streams have to end in order.  So `run` sets a deadline instead.
        with trio.CancelScope(shield=True, deadline=lifetime) as scope:
            self._scopes.append(scope)

            def exempt() -> None:
                scope.deadline = math.inf

            try:
                await http.converse(stream, exempt)
            except Exception as error:  # only this connection ends
                _log.error("page.connection_failed", exc_info=error)
            finally:
                self._scopes.remove(scope)
                stream.socket.close()
