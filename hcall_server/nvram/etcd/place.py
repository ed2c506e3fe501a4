"""The place of a system's NVRAM in etcd: the words of `--nvram` and their rules."""

# Records are sealed before they leave the server, so the way to etcd needs no secrecy.  It needs integrity: a
# program on the way could withhold commits, or answer with older records.  So members beyond loopback should
# be reached by https, with an authority of the cluster's own.  Plain http is not refused, because a lab may
# have a network of its own; the server logs it.

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from hcall_abi.addresses import host_and_port, is_loopback
from hcall_abi.errors import OperatorError
from hcall_abi.rules import cluster as rules

DEFAULT_PREFIX = "swpks"
DEFAULT_LEASE = 6
"""Seconds of silence after which another server may become the owner."""
_KIND = "etcd:"
_PORT = 2379
"""The port of a member's clients, if an endpoint names none."""
_LONGEST_PREFIX = 128
# A prefix below PREFIX/record/ of another system would be read and wiped with the records of that system.
_PREFIX = re.compile(r"(?!(?:.*/)?record(?:/|$))[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*")
_ENDPOINT = re.compile(r"(?:(https?)://)?([^/@?#]+)/?", re.IGNORECASE)


class EtcdTls(NamedTuple):
    """PEM files for https: the authority of the members, and a client certificate with its key."""

    ca: Path
    cert: Path | None = None
    key: Path | None = None


class EtcdPlace(NamedTuple):
    """Where the records of one system are: the URLs of the members, and the beginning of all keys.

    `lease` is the time of the owner's lease in seconds.
    """

    endpoints: tuple[str, ...]
    prefix: str = DEFAULT_PREFIX
    tls: EtcdTls | None = None
    lease: int = DEFAULT_LEASE

    @property
    def unprotected(self) -> tuple[str, ...]:
        """The endpoints beyond loopback that are reached without TLS."""
        found = ((each, host_and_port(each.removeprefix("http://"))) for each in self.endpoints)
        return tuple(url for url, place in found if place and not is_loopback(place[0]))


def parse_place(
    text: str,
    prefix: str | None = None,
    *,
    ca: str | None = None,
    cert: str | None = None,
    key: str | None = None,
    lease: int | None = None,
) -> EtcdPlace:
    """Return the place in "etcd:ENDPOINT[,ENDPOINT...]"; OperatorError for any other form.

    An endpoint is HOST, HOST:PORT, or a URL of one.  Without a scheme it is https if `ca` is given.
    """
    if "@" in text or "?" in text:
        # The text is not shown: no rule says which part of a wrong URL is a password.
        message = "nvram has a URL with a name, a password or a token: use a client certificate"
        raise OperatorError(rules.NVRAM_FORM, message)
    if not text.startswith(_KIND):
        raise OperatorError(rules.NVRAM_FORM, f"nvram {text!r}: it does not begin with {_KIND}")
    if prefix is not None and (len(prefix) > _LONGEST_PREFIX or not _PREFIX.fullmatch(prefix)):
        raise OperatorError(rules.NVRAM_PREFIX, f"nvram_prefix {prefix[: _LONGEST_PREFIX + 1]!r}")
    scheme = "https" if ca else "http"
    endpoints = tuple(_endpoint(each, scheme) for each in text.removeprefix(_KIND).split(","))
    if len(set(endpoints)) < len(endpoints):
        raise OperatorError(rules.NVRAM_FORM, f"nvram {text!r}: it names a member twice")
    return EtcdPlace(
        endpoints, prefix or DEFAULT_PREFIX, _tls(endpoints, ca, cert, key), lease or DEFAULT_LEASE
    )


def _endpoint(text: str, scheme: str) -> str:
    """Return an endpoint as a URL without a path."""
    found = _ENDPOINT.fullmatch(text)
    if found is None:
        raise OperatorError(rules.NVRAM_FORM, f"nvram endpoint {text!r} is no HOST:PORT")
    place = host_and_port(found[2]) or host_and_port(f"{found[2]}:{_PORT}")
    if place is None or not place[1]:
        raise OperatorError(rules.NVRAM_FORM, f"nvram endpoint {text!r} is no HOST:PORT")
    name = place[0].lower()
    host = f"[{name}]" if ":" in name else name
    return f"{(found[1] or scheme).lower()}://{host}:{place[1]}"


def _tls(endpoints: tuple[str, ...], ca: str | None, cert: str | None, key: str | None) -> EtcdTls | None:
    """Return the files for https; None if the members are reached by http."""
    if "" in (ca, cert, key):  # a variable of a script that is not set must not mean http
        raise OperatorError(rules.NVRAM_TLS, "nvram: a file of nvram_tls_ca, _cert or _key has an empty name")
    secure = {each.startswith("https:") for each in endpoints}
    if len(secure) > 1:
        raise OperatorError(rules.NVRAM_TLS, "nvram: some endpoints are http, and some are https")
    if secure == {True} and not ca:
        raise OperatorError(rules.NVRAM_TLS, "nvram: https without nvram_tls_ca")
    if secure == {False} and (ca or cert or key):
        raise OperatorError(rules.NVRAM_TLS, "nvram: http has no use for nvram_tls_ca, _cert and _key")
    if bool(cert) != bool(key):
        raise OperatorError(rules.NVRAM_TLS, "nvram: nvram_tls_cert and nvram_tls_key belong together")
    if not ca:
        return None
    return EtcdTls(Path(ca), Path(cert) if cert else None, Path(key) if key else None)
