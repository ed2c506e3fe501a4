"""The control channel as data: every verb, and every kind of problem (spec/control.md).

The server's routes, the OpenAPI description and the typed client (`hcall_client.console`) are made from
`VERBS`.  The tables of the page are checked against it.  A new verb is a row here, its structs in
`control_bodies` and `control_views`, its function in `hcall_server.control_channel.verbs`, and its request in
`requests`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, NamedTuple

from hcall_abi.control_bodies import (
    ArrivalCheck,
    ArrivingCopy,
    AttributeChanges,
    Body,
    ConsoleAttachment,
    CopyToRestore,
    CustodyMessage,
    ExpectedPartition,
    FaultPlanSetting,
    ForgottenCopies,
    KeptCopy,
    MigrationOrder,
    NewPartition,
    NvramFaultSetting,
    PartitionChanges,
    PartitionDeletion,
    PartitionRelease,
    RecoveryEnd,
    SystemChanges,
    TraceSetting,
    TrustedKeySetting,
)
from hcall_abi.control_views import (
    Answered,
    ArrivalView,
    ComponentsView,
    CopyView,
    ExpectationView,
    HealthView,
    NeedsView,
    PartitionView,
    RecoveredView,
    SystemView,
    TraceView,
    TrustedKeyView,
    WritebackView,
)
from hcall_abi.rules import console as rules
from hcall_abi.rules.rule import Rule
from hcall_abi.snapshot_bodies import (
    NamedSnapshot,
    SnapshotComparison,
    SnapshotLoading,
    SnapshotSaving,
)
from hcall_abi.snapshot_views import (
    LoadedSnapshotView,
    SavedSnapshotView,
    SnapshotDiffView,
    SnapshotsView,
    SnapshotView,
)


class ProblemKind(Enum):
    """A kind of problem: its HTTP status, its title, and its rule where the kind has only one."""

    MALFORMED = (
        400,
        "Malformed request",
        rules.REQUEST_FORM,
    )
    NOT_FOUND = (404, "Not found", rules.REQUEST_PATH)
    NO_METHOD = (405, "Method not allowed", rules.REQUEST_METHOD)
    TOO_SLOW = (408, "Request too slow", rules.REQUEST_TIME)
    # The rule is None, because many rules have this kind. The problem names the rule itself.
    REFUSED = (409, "Refused by a rule", None)
    TOO_LARGE = (413, "Body too large", rules.REQUEST_SIZE)
    NOT_JSON = (415, "Not JSON", rules.REQUEST_JSON)
    INTERNAL = (500, "Internal error", rules.REQUEST_ANSWERED)
    STORAGE = (503, "Storage trouble", None)
    SCARCITY = (503, "Resources ran out", None)

    def __init__(self, status: int, title: str, rule: Rule | None) -> None:
        self.status = status
        self.title = title
        self.rule = rule

    @property
    def type(self) -> str:
        """The problem type's URI."""
        return f"urn:swpks:problem:{self.name.lower().replace('_', '-')}"


JSON = "application/json"
PROBLEM_JSON = "application/problem+json"
PROMETHEUS = "text/plain"
EVENT_STREAM = "text/event-stream"

CONSOLE_HEADER = "Swpks-Console"
"""The header of watchEvents: the id of the console that opens the stream."""
SYSTEM_HEADER = "Swpks-System"
"""The header with the id of the system that a request is for.  Every other system refuses it."""


class Verb(NamedTuple):
    """One verb of the control channel.

    `operation` is the verb's id in the OpenAPI description.  `body` is None for a verb without a body.
    `answers` has the struct of each HTTP status, None for an answer of the media type `text`.  `problems` are
    those of this verb; every request can have others too.
    """

    method: str
    path: str
    operation: str
    summary: str
    answers: Mapping[int, type[Answered] | None]
    body: type[Body] | None = None
    problems: tuple[ProblemKind, ...] = ()
    text: str = PROMETHEUS


class Parameter(NamedTuple):
    """A part of a path that the caller fills in."""

    description: str
    schema: Mapping[str, Any]


PARAMETERS: Mapping[str, Parameter] = {
    "name": Parameter("name of a partition", {"type": "string", "minLength": 1}),
}
"""The parameters of the paths, by the name in braces."""

ALWAYS = (ProblemKind.MALFORMED, ProblemKind.INTERNAL, ProblemKind.SCARCITY)
"""Problems that any request may meet."""

WITH_BODY = (ProblemKind.TOO_SLOW, ProblemKind.TOO_LARGE, ProblemKind.NOT_JSON)
"""Problems of every verb that takes a body."""

_ONE = (ProblemKind.NOT_FOUND,)
_CHANGE = (ProblemKind.NOT_FOUND, ProblemKind.REFUSED, ProblemKind.STORAGE)
_SHOWN = {200: PartitionView}

VERBS: tuple[Verb, ...] = (
    Verb("GET", "/v1/system", "showSystem", "show the system and list its partitions",
         {200: SystemView}),
    Verb("PATCH", "/v1/system", "setSystem", "give the system another name",
         {200: SystemView}, SystemChanges, (ProblemKind.REFUSED, ProblemKind.STORAGE)),
    Verb("POST", "/v1/system/power-off", "stopSystem", "power the system off: its server stops in good order",
         {200: SystemView}, None, (ProblemKind.REFUSED,)),
    Verb("GET", "/v1/events", "watchEvents", "a stream of numbered events and questions",
         {200: None}, None, (ProblemKind.REFUSED,), EVENT_STREAM),
    Verb("PUT", "/v1/console", "attachConsole", "attach a management console: its id goes into NVRAM",
         {200: SystemView}, ConsoleAttachment, (ProblemKind.REFUSED, ProblemKind.STORAGE)),
    Verb("POST", "/v1/console/detach", "detachConsole", "take the id of a management console out of NVRAM",
         {200: SystemView}, ConsoleAttachment, (ProblemKind.REFUSED, ProblemKind.STORAGE)),
    Verb("POST", "/v1/partitions", "createPartition", "create a partition, powered off",
         {201: PartitionView}, NewPartition, (ProblemKind.REFUSED, ProblemKind.STORAGE)),
    Verb("GET", "/v1/partitions/{name}", "showPartition", "show a partition",
         _SHOWN, None, _ONE),
    Verb("PATCH", "/v1/partitions/{name}", "changePartition", "change name, start and attributes, or none",
         _SHOWN, PartitionChanges, _CHANGE),
    Verb("POST", "/v1/partitions/{name}/delete", "deletePartition", "delete a partition that is powered off",
         {200: SystemView}, PartitionDeletion, _CHANGE),
    Verb("POST", "/v1/partitions/{name}/power-on", "powerOn", "activate a stopped partition: an IPL",
         _SHOWN, None, _CHANGE),
    Verb("POST", "/v1/partitions/{name}/power-off", "powerOff", "stop a running partition, end its sessions",
         _SHOWN, None, _CHANGE),
    Verb("POST", "/v1/partitions/{name}/ipl", "ipl", "restart a running partition, end its sessions",
         _SHOWN, None, _CHANGE),
    Verb("POST", "/v1/partitions/{name}/rotate-key", "rotateKey", "give a partition a new access key for TCP",
         _SHOWN, None, _CHANGE),
    Verb("PATCH", "/v1/partitions/{name}/attributes", "setAttributes", "set attributes, all of them or none",
         _SHOWN, AttributeChanges, _CHANGE),
    Verb("PUT", "/v1/partitions/{name}/faults", "setFaults", "set a fault plan, or end it with no faults",
         _SHOWN, FaultPlanSetting, _CHANGE),
    Verb("PUT", "/v1/partitions/{name}/trace", "setTrace", "begin or end the trace of a partition",
         {200: TraceView}, TraceSetting, _CHANGE),
    Verb("GET", "/v1/partitions/{name}/copy", "showCopy", "make a copy of a store, sealed for the console",
         {200: CopyView}, None, _CHANGE),
    Verb("PUT", "/v1/partitions/{name}/copy", "keepCopy", "note that the console holds a copy durably",
         _SHOWN, KeptCopy, _CHANGE),
    Verb("POST", "/v1/copies/forgotten", "forgetCopies", "note that the console has put copies aside",
         {200: SystemView}, ForgottenCopies, (ProblemKind.REFUSED, ProblemKind.STORAGE)),
    Verb("POST", "/v1/copies", "restoreCopy", "put a store back to a copy: contents go back, counters never",
         {200: PartitionView}, CopyToRestore, (ProblemKind.REFUSED, ProblemKind.STORAGE)),
    Verb("GET", "/v1/components", "showComponents", "show the replaceable parts, and how the start went",
         {200: ComponentsView}),
    Verb("GET", "/v1/trusted-key", "showTrustedKey", "show the id of the trusted system key",
         {200: TrustedKeyView}, None, (ProblemKind.STORAGE,)),
    Verb("PUT", "/v1/trusted-key", "setTrustedKey", "change or restore the trusted system key",
         {200: TrustedKeyView}, TrustedKeySetting, (ProblemKind.REFUSED, ProblemKind.STORAGE)),
    Verb("POST", "/v1/recovery/begin", "beginRecovery", "put an empty system into the state Recovery",
         {200: SystemView}, None, (ProblemKind.REFUSED, ProblemKind.STORAGE)),
    Verb("POST", "/v1/recovery/end", "endRecovery", "end the state Recovery",
         {200: RecoveredView}, RecoveryEnd, (ProblemKind.REFUSED, ProblemKind.STORAGE)),
    Verb("GET", "/v1/partitions/{name}/needs", "showNeeds", "show the needs of a partition at another system",
         {200: NeedsView}, None, _CHANGE),
    Verb("POST", "/v1/arrivals/check", "checkArrival", "check whether a partition fits on this system",
         {200: ArrivalView}, ArrivalCheck, (ProblemKind.REFUSED, ProblemKind.STORAGE)),
    Verb("POST", "/v1/arrivals", "expectPartition", "expect a partition that is to migrate to this system",
         {200: ExpectationView}, ExpectedPartition, (ProblemKind.REFUSED, ProblemKind.STORAGE)),
    Verb("POST", "/v1/arrivals/copy", "takePartition", "own a partition from its console copy",
         {200: PartitionView}, ArrivingCopy, (ProblemKind.REFUSED, ProblemKind.STORAGE)),
    Verb("POST", "/v1/partitions/{name}/migration", "beginMigration", "begin a live migration",
         _SHOWN, MigrationOrder, _CHANGE),
    Verb("POST", "/v1/partitions/{name}/release", "releasePartition", "release a powered-off partition",
         {200: CopyView}, PartitionRelease, _CHANGE),
    Verb("POST", "/v1/custody", "tellCustody", "a word of the migration protocol for this system",
         {200: SystemView}, CustodyMessage, (ProblemKind.REFUSED, ProblemKind.STORAGE)),
    Verb("GET", "/v1/snapshots", "listSnapshots", "list the named snapshots of the system",
         {200: SnapshotsView}, None, (ProblemKind.STORAGE,)),
    Verb("POST", "/v1/snapshots", "saveSnapshot", "save a named snapshot of the system",
         {201: SavedSnapshotView}, SnapshotSaving, (ProblemKind.REFUSED, ProblemKind.STORAGE)),
    Verb("POST", "/v1/snapshots/load", "loadSnapshot", "load a snapshot: contents go back, counters never",
         {200: LoadedSnapshotView}, SnapshotLoading, (ProblemKind.REFUSED, ProblemKind.STORAGE)),
    Verb("POST", "/v1/snapshots/show", "showSnapshot", "show the contents of a snapshot, without data",
         {200: SnapshotView}, NamedSnapshot, (ProblemKind.REFUSED, ProblemKind.STORAGE)),
    Verb("POST", "/v1/snapshots/diff", "diffSnapshot", "compare a snapshot with another one, or with now",
         {200: SnapshotDiffView}, SnapshotComparison, (ProblemKind.REFUSED, ProblemKind.STORAGE)),
    Verb("POST", "/v1/snapshots/remove", "removeSnapshot", "remove a snapshot",
         {200: SnapshotsView}, NamedSnapshot, (ProblemKind.REFUSED, ProblemKind.STORAGE)),
    Verb("PUT", "/v1/nvram/fault", "setNvramFault", "begin a fault of NVRAM, or end it",
         {200: WritebackView}, NvramFaultSetting, (ProblemKind.REFUSED, ProblemKind.STORAGE)),
    Verb("GET", "/health", "showHealth", "report the health: 200, or 503 with the reasons",
         {200: HealthView, 503: HealthView}),
    Verb("GET", "/metrics", "showMetrics", "figures for Prometheus",
         {200: None}),
)  # fmt: skip
"""Every verb, in the order of the description."""
