"""Messages to a service manager: the notification socket of sd_notify(3).

The protocol has no answers, and a service manager is optional.  So errors are ignored.
"""

from __future__ import annotations

import os
import socket


def notify(message: str) -> None:
    """Send a line such as "READY=1" to the service manager, if there is one."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    # An abstract address begins with a zero byte.  A variable cannot have one, so systemd writes "@" for
    # it.
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.setblocking(False)  # if the manager's queue is full, the event loop must not wait
            channel.connect(address)
            channel.send(message.encode())
    except OSError:
        pass
