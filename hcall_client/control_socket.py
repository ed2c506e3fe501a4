"""The control channel's Unix socket, as httpx takes it (spec/control.md)."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Any

BASE_URL = "http://swpks"
"""A URL needs a host; nobody looks at it."""


def transport_options(socket: Path) -> dict[str, Any]:
    """Return the arguments of httpx's transport, blocking or async, for the control channel at `socket`."""
    # There is no TLS on a Unix socket; an empty context only spares the loading of all the world's roots.
    no_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return {"uds": os.fspath(socket), "verify": no_tls, "trust_env": False}
