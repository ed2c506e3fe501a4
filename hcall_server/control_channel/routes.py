"""The table of verbs: from it come the server's routes and the OpenAPI description.

spec/control.md has the same table for people; tests/control_channel/test_spec.py holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from hcall_server.control_channel import verbs
from hcall_server.control_channel.bodies import (
    AttributeChanges,
    Body,
    FaultPlanSetting,
    HealthView,
    KeystoreSize,
    NewPartition,
    NvramFaultSetting,
    PartitionView,
    SecureBootSetting,
    SystemView,
    WritebackView,
)
from hcall_server.control_channel.problems import Kind

Perform = Callable[[verbs.Call], verbs.Answer]

JSON = "application/json"
PROBLEM_JSON = "application/problem+json"
PROMETHEUS = "text/plain"


class Verb(NamedTuple):
    """One verb of the control channel.

    `operation` is its id in the description; `body` is None for a verb that takes none; `answers` has
    the struct of each status, None where the answer is plain text; `problems` are those of this verb
    beside the ones that any request may meet.  `load`, in a thread, imports what `perform` needs.
    """

    method: str
    path: str
    operation: str
    summary: str
    perform: Perform
    answers: Mapping[int, type[Body] | None]
    body: type[Body] | None = None
    problems: tuple[Kind, ...] = ()
    load: Callable[[], object] | None = None


class Parameter(NamedTuple):
    """A part of a path that the caller fills in."""

    description: str
    schema: Mapping[str, Any]


PARAMETERS: Mapping[str, Parameter] = {
    "name": Parameter("name of a partition", {"type": "string", "minLength": 1}),
}
"""What stands in braces in the paths."""

ALWAYS = (Kind.MALFORMED, Kind.INTERNAL)
"""Problems that any request may meet."""

WITH_BODY = (Kind.TOO_SLOW, Kind.TOO_LARGE, Kind.NOT_JSON)
"""Problems of every verb that takes a body."""

_ONE = (Kind.NOT_FOUND,)
_CHANGE = (Kind.NOT_FOUND, Kind.REFUSED, Kind.STORAGE)
_SHOWN = {200: PartitionView}

VERBS: tuple[Verb, ...] = (
    Verb("GET", "/v1/system", "showSystem", "show the system and list its partitions",
         verbs.show_system, {200: SystemView}),
    Verb("POST", "/v1/partitions", "createPartition", "create a partition, powered off",
         verbs.create_partition, {201: PartitionView}, NewPartition, (Kind.REFUSED, Kind.STORAGE)),
    Verb("GET", "/v1/partitions/{name}", "showPartition", "show a partition",
         verbs.show_partition, _SHOWN, None, _ONE),
    Verb("POST", "/v1/partitions/{name}/power-on", "powerOn", "activate a stopped partition: an IPL",
         verbs.power_on, _SHOWN, None, _CHANGE),
    Verb("POST", "/v1/partitions/{name}/power-off", "powerOff", "stop a running partition, end its sessions",
         verbs.power_off, _SHOWN, None, _CHANGE),
    Verb("POST", "/v1/partitions/{name}/ipl", "ipl", "restart a running partition, end its sessions",
         verbs.ipl, _SHOWN, None, _CHANGE),
    Verb("PUT", "/v1/partitions/{name}/secure-boot", "setSecureBoot", "set the mode that the next IPL takes",
         verbs.set_secure_boot, _SHOWN, SecureBootSetting, _CHANGE),
    Verb("PUT", "/v1/partitions/{name}/keystore", "setKeystoreSize", "set the size of a keystore, 0 for off",
         verbs.set_keystore_size, _SHOWN, KeystoreSize, _CHANGE),
    Verb("PATCH", "/v1/partitions/{name}/attributes", "setAttributes", "set attributes, all of them or none",
         verbs.set_attributes, _SHOWN, AttributeChanges, _CHANGE),
    Verb("PUT", "/v1/partitions/{name}/faults", "setFaults", "set a fault plan, or end it with no faults",
         verbs.set_faults, _SHOWN, FaultPlanSetting, _CHANGE),
    Verb("PUT", "/v1/nvram/fault", "setNvramFault", "trouble NVRAM, or end it",
         verbs.set_nvram_fault, {200: WritebackView}, NvramFaultSetting, (Kind.REFUSED,)),
    Verb("GET", "/health", "showHealth", "tell whether all is well: 200, or 503 with the reasons",
         verbs.show_health, {200: HealthView, 503: HealthView}),
    Verb("GET", "/metrics", "showMetrics", "figures for Prometheus",
         verbs.show_metrics, {200: None}, load=verbs.load_metrics),
)  # fmt: skip
"""Every verb, in the order of the description."""
