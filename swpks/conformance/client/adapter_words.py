"""Text that both adapters share: the address of a place, and the report of an error."""

from __future__ import annotations

from hcall_abi.errors import PeerError, SwpksError
from hcall_client.errors import CallTooLarge, ConnectionLost, NotReached, OpenRefused, SessionEnded, has_moved

READY = "ready hcall_client"


def target_of(place: str) -> str | tuple[str, int]:
    """Return the address of a place such as `unix:PATH` or `tcp:HOST:PORT`."""
    kind, _, rest = place.partition(":")
    if kind == "unix":
        return rest
    host, _, port = rest.rpartition(":")
    return host, int(port)


def error_line(error: Exception) -> str:
    """Return the report line for an exception that the client's library has raised."""
    # Only the end of a session has an outcome.  A call that is too large was not sent, so it has no outcome.
    outcome = ""
    if has_moved(error):
        outcome = " outcome=not-run"
    elif isinstance(error, PeerError) and error.unknown:
        outcome = " outcome=unknown"
    match error:
        case OpenRefused():
            return f"refused {int(error.status)}"
        case CallTooLarge():
            return "too-large"
        case SessionEnded():
            return f"ended {int(error.reason)}{outcome}"
        case ConnectionLost():
            return f"lost{outcome}"
        case SwpksError() if not isinstance(error, NotReached):
            return f"broken {error.rule.id}"
        case _:
            return f"unreachable {error}"
