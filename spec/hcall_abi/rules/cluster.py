"""Rules of a server whose NVRAM is on etcd, and of a standby (spec/service.md#nvram-on-etcd)."""

from __future__ import annotations

from hcall_abi.bounds import MAX_NVRAM_LEASE_S, MIN_NVRAM_LEASE_S
from hcall_abi.rules.rule import Fault, Rule

_OPERATOR = Fault.OPERATOR
_CLUSTER = "spec/service.md#nvram-on-etcd"

NVRAM_FORM = Rule(
    "nvram.form",
    "--nvram is etcd: and members after it, divided by commas: HOST:PORT, http://HOST:PORT or https://HOST:PORT",
    _CLUSTER,
    _OPERATOR,
)
NVRAM_PREFIX = Rule(
    "nvram.prefix",
    "a prefix in etcd has 1 to 128 ASCII letters, digits, '.', '_' and '-', in parts between slashes; "
    "no part is 'record'",
    _CLUSTER,
    _OPERATOR,
)
NVRAM_TLS = Rule(
    "nvram.tls",
    "members are reached by http, or by https with an authority in PEM; a client certificate has its key",
    _CLUSTER,
    _OPERATOR,
)
NVRAM_LEASE = Rule(
    "nvram.lease",
    f"the lease of an owner in etcd lasts {MIN_NVRAM_LEASE_S} to {MAX_NVRAM_LEASE_S} seconds",
    _CLUSTER,
    _OPERATOR,
)
STANDBY_NVRAM = Rule("standby.nvram", "a standby has its NVRAM on etcd, by --nvram", _CLUSTER, _OPERATOR)
# A start with the other back end would find no records, and take the system for one that lost them.
NVRAM_ONE_PLACE = Rule(
    "nvram.one-place",
    "a state has its NVRAM in its folder or on etcd, and each start names the same one",
    _CLUSTER,
    _OPERATOR,
)
