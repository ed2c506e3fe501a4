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
    # systemd writes the zero byte before an abstract name as "@", because a variable can't have a zero byte.
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.setblocking(False)  # a full queue of the manager must not stop the event loop
            channel.connect(address)
            channel.send(message.encode())
    except OSError:
        pass
