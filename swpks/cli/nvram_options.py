"""The options that name NVRAM on etcd: for `swpks serve`, and for commands on a powered-off system."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hcall_server.nvram.etcd.place import EtcdPlace

_FIELDS = ("nvram", "nvram_prefix", "nvram_tls_ca", "nvram_tls_cert", "nvram_tls_key")


def add_nvram_options(add: Callable[..., Any]) -> None:
    """Add the options by `add(name, **options)`, which is that of argparse or one like it."""
    add(
        "--nvram",
        metavar="etcd:ENDPOINT[,ENDPOINT...]",
        help="NVRAM on the etcd cluster with these members (default: in the state folder)",
    )
    add("--nvram-prefix", metavar="P", help="the beginning of its keys, one for each system (default: swpks)")
    add("--nvram-tls-ca", metavar="FILE", help="reach etcd by https: the authority of its members, in PEM")
    add("--nvram-tls-cert", metavar="FILE", help="with --nvram-tls-ca: this host's client certificate")
    add("--nvram-tls-key", metavar="FILE", help="with --nvram-tls-ca: its private key")


def nvram_fields(options: argparse.Namespace) -> dict[str, str | None]:
    """Return the fields of `Settings` that these options replace; None for an option that was not given."""
    return {name: getattr(options, name) for name in _FIELDS}


def nvram_place(options: argparse.Namespace) -> EtcdPlace | None:
    """Return the place of NVRAM on etcd; None if it is in the state folder.

    OperatorError if an option has a wrong form, as for `swpks serve`.
    """
    given = {name: value for name, value in nvram_fields(options).items() if value is not None}
    if not given:
        return None
    from hcall_server.service.settings import Settings

    fields: dict[str, Any] = {**given}
    return Settings(**fields).nvram_on_etcd()
