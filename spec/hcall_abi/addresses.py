"""Addresses of TCP listeners and their clients as text."""

from __future__ import annotations

import re

# An IPv6 address stands in brackets. Otherwise one of its colons could be taken for the colon before the
# port.
_HOST_PORT = r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]+)):([0-9]{1,5})"
_PLACE = re.compile(rf"unix:(.+)|tcp:{_HOST_PORT}", re.DOTALL)


def is_host(text: str) -> bool:
    """Return whether a host can be looked up: the text is printable, and its labels fit into DNS.

    Check a host with this before a lookup: Python's resolver raises ValueError for any other text.
    """
    if not text.isprintable() or " " in text:
        return False
    try:
        return bool(text.encode("idna"))
    except UnicodeError:
        return False


def is_place(text: str) -> bool:
    """Whether a text is the address of a listener: ``unix:PATH`` or ``tcp:HOST:PORT``."""
    found = _PLACE.fullmatch(text)
    # The kernel would cut the path at a NUL.
    if found is None or "\0" in text:
        return False
    return bool(found[1]) or (is_host(found[2] or found[3]) and 1 <= int(found[4]) <= 0xFFFF)


def host_and_port(text: str) -> tuple[str, int] | None:
    """Return host and port of ``HOST:PORT`` or ``[IPV6]:PORT``; port 0 is one too.

    None for another form, and for a host that can't be looked up.
    """
    found = re.fullmatch(_HOST_PORT, text)
    if found is None or int(found[3]) > 0xFFFF or not is_host(found[1] or found[2]):
        return None
    return found[1] or found[2], int(found[3])


def is_loopback(host: str) -> bool:
    """Whether a host is this machine alone: an address of loopback, or the name ``localhost``.

    Another name is not: it may get another address at any time.
    """
    if host.lower() == "localhost":
        return True
    import ipaddress  # most starts check no address

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
