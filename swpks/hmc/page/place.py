"""The place of the page, and the hosts that a request may name.  Pure."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

from hcall_abi.addresses import host_and_port, is_loopback
from hcall_abi.errors import OperatorError, PeerError
from hcall_abi.rules import hmc as rules

_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]+))(?::[0-9]{1,5})?")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_SHOWN = 80
"""Characters of a wrong host that a refusal repeats."""


class PagePlace(NamedTuple):
    """Host and port of `--page`; port 0 takes a free one."""

    host: str
    port: int

    def at(self, port: int) -> str:
        """Return the URL of the page at the port that was taken."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{port}/"


def place_of(text: str, *, insecure: bool) -> PagePlace:
    """Return the place in the words HOST:PORT.

    OperatorError for another form, and for a host beyond loopback without `insecure`.
    """
    place = host_and_port(text)
    if place is None:
        told = f"--page {text[:_SHOWN]!r} is no HOST:PORT, such as 127.0.0.1:8080"
        raise OperatorError(rules.HMC_PAGE_PLACE, told, advised=True)
    host, port = place
    if not insecure and not is_loopback(host):
        message = f"--page {text[:_SHOWN]!r}: every host that reaches {host} could read the page"
        advice = "take 127.0.0.1, or permit it by --insecure-listen"
        raise OperatorError(rules.HMC_PAGE_LOOPBACK, f"{message}; {advice}", advised=True)
    return PagePlace(host, port)


def demand_host(place: PagePlace, given: list[str]) -> None:
    """Raise PeerError unless the Host headers of a request are one, and name this page.

    Any port is permitted: a tunnel may have another one, and a port leads no name to another machine.
    """
    found = _HOST.fullmatch(given[0]) if len(given) == 1 else None
    host = _one_form(found[1] or found[2]) if found else ""
    if host and (host == _one_form(place.host) or host in _LOOPBACK):
        return
    # At the address of all interfaces, --page names no host.  A request that names an address is safe there:
    # a hostile DNS can lead only a name to this page.
    if _is_any(place.host) and _address(host):
        return
    named = ", ".join(given)[:_SHOWN] or "no host"
    message = f"the request is for {named!r}, and this page is at {place.host}"
    remedy = "use an address" if _is_any(place.host) else "use this host"
    raise PeerError(rules.HMC_PAGE_HOST, f"{message}: {remedy}, or name the host in --page", advised=True)


def _one_form(host: str) -> str:
    """Return a host in the one form of its name or address: an IPv6 address can be written in many."""
    address = _address(host)
    return host.lower() if address is None else str(address)


def _is_any(host: str) -> bool:
    address = _address(host)
    return address is not None and address.is_unspecified


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
