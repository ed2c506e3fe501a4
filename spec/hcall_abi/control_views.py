"""The bodies of answers of the control channel as msgspec structs (spec/control.md#answers).

Sizes of keystores are in KiB (`kbytes`), sizes of their contents in bytes.  No body holds a password, a key
or object data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

from hcall_abi.console import ConsoleAttributes, SecureBootMode

SystemStateName = Literal["Operating", "Recovery", "Reset pending"]
FaultName = Literal["guest", "peer", "operator", "storage", "internal"]
EventKind = Literal["hello", "changed", "take-copy", "forget-copies", "ask-custody", "stopping"]
CustodyName = Literal["own", "frozen", "released", "gone", "none", "prepared", "arrived"]
ConsumerName = Literal["firmware", "boot-loader", "os"]
ModeName = Literal["serving", "copying", "waiting", "in-doubt", "asking", "settled"]


# A view accepts unknown fields: an older client must be able to read the answers of a newer server. A `Body`
# refuses them.
class View(msgspec.Struct, kw_only=True):
    """The base of every struct in an answer: a later version may add fields."""


class FaultView(View):
    """A fault of a plan.  Of `seen` calls since the plan was set, the fault has answered `answered`."""

    hcall: str
    status: str
    nth: int
    times: int | None
    seconds: float | None
    seen: int
    answered: int
    spent: bool


class KeystoreView(View):
    """Figures of a keystore that is on: total and used bytes, objects, all changes and durable changes.

    `passwords` names the consumers whose password is set in this IPL.
    """

    total_bytes: int
    used_bytes: int
    objects: int
    generation: Annotated[int, msgspec.Meta(description="counts every change that belongs in NVRAM")]
    flushed: Annotated[int, msgspec.Meta(description="the generation known to be durable")]
    passwords: list[ConsumerName] = []


class KeptCopyView(View):
    """The system's record of the last copy that the console holds; `time` is in seconds since 1970."""

    restores: int
    generation: int
    time: int


class ConsoleLinkView(View):
    """The management console that a system is attached to.

    `since` is the time when the console was connected or lost, in seconds since 1970 (UTC).
    """

    id: str
    name: str
    connected: bool
    since: int


class EventView(View):
    """A numbered event of the stream.

    `take-copy`, `forget-copies` and `ask-custody` are questions; the console answers each with a verb.
    """

    number: int
    kind: EventKind
    partition: str = ""
    uuid: str = ""


class Trouble(View):
    """The reason of a trouble: the finding, the broken rule, and its page."""

    detail: str
    rule_id: str
    rule: str
    section: str


@dataclass(frozen=True, kw_only=True)
class PartitionFacts:
    """The facts of a partition that views have before its attributes; its `uuid` never changes.

    `custody` is durable.  `mode` shows whether the system serves the partition (spec/migration.md#custody).
    `address` is where the partition's data channel listens, ``unix:PATH`` or ``tcp:HOST:PORT``; "" if it does
    not listen.  In custody PREPARED, `address` is where the channel will listen.

    `restores` counts the restores of the partition's store.  `generation` is that of the store, which exists
    even while the keystore is off.
    """

    number: int
    name: str
    uuid: str
    power: Literal["off", "running"]
    custody: CustodyName = "own"
    mode: ModeName = "serving"
    address: str = ""
    ipl_count: int
    restores: int
    generation: int
    auto_start: bool
    curr_secure_boot: SecureBootMode


@dataclass(frozen=True, kw_only=True)
class PartitionView(ConsoleAttributes, PartitionFacts):
    """A partition as the console shows it, with every attribute of `hcall_abi.console`.

    `secure_boot` is the console's setting, and `curr_secure_boot` the mode of this IPL.  `keystore` is null
    while the keystore is off or could not be opened; in the second case `refused` has the reason.  `copy` is
    the last copy that the console holds, null for none.  `faults` is the partition's fault plan.

    This is a dataclass and no struct, because it inherits the attributes; its JSON is that of a struct.
    """

    keystore: KeystoreView | None
    copy: KeptCopyView | None
    refused: Trouble | None
    faults: list[FaultView]


class CustodyView(View):
    """The custody of a partition that took part in an attempt, or that asks its console at a start (R-54).

    `generation` is that of the partition's durable store.  `peer_id` is the other system, "" for none.
    `tried` is the last attempt that began on this system since its start, and `trouble` the reason why that
    attempt ended.  `row` is the last row of the state table that the system used since its start, 0 for none.
    `mode`, `tried`, `trouble` and `row` are not durable.
    """

    uuid: str
    name: str
    custody: CustodyName
    mode: ModeName
    epoch: int
    generation: int
    peer_id: str
    tried: int = 0
    trouble: str = ""
    row: int = 0


class SystemView(View):
    """A managed system with its partitions; `system_id` is 32 hex digits and no secret.

    In the state Recovery, `restored` has the names of restored stores, and `lost` those of stores that are
    known to be missing.  `console` is the management console, null for none.  `mobility` is the address where
    the system expects partitions, "" if it does not listen (spec/migration.md).
    """

    name: str
    type_model_serial: str
    state: SystemStateName
    console: ConsoleLinkView | None
    restored: list[str]
    lost: list[str]
    system_id: str
    firmware_level: str
    total_kbytes: int
    assigned_kbytes: int
    partitions: list[PartitionView]
    custody: list[CustodyView] = []
    mobility: str = ""


class ComponentView(View):
    """A replaceable part as the last start found it.

    `copy` is the state of its copy of the root key: agrees, restored, present, none, or silent (its TPM
    does not answer).  `ok` is false if redundancy is missing.
    """

    name: str
    kind: str
    copy: str
    detail: str
    ok: bool


class AccessStepView(View):
    """A step of the procedure that gave access to the stores (1 to 9), and its finding."""

    step: int
    finding: str


class ComponentsView(View):
    """All replaceable parts, the row of the root-key table that decided at the start, and the steps."""

    decision: str
    components: list[ComponentView]
    steps: list[AccessStepView]


class TrustedKeyView(View):
    """The trusted system key: its id (16 hex digits), and the key sealed under the root key (base64).

    Both are null while there is none.  Only this system opens `sealed`.
    """

    id: str | None
    sealed: bytes | None


class CopyView(View):
    """A console copy (base64) with its unencrypted facts; `time` is in seconds since 1970 (UTC)."""

    uuid: str
    trusted_key_id: str
    restores: int
    generation: int
    time: int
    keystore_kbytes: int
    firmware_level: str
    copy: bytes


class ExpectationView(View):
    """The answer of a target that expects a partition; the source connects to `address`."""

    address: str


# This view can't be ArrivalCheck itself. A view may get new fields, and a body refuses unknown fields.
class NeedsView(View):
    """The needs of a partition at another system, with the fields of `control_bodies.ArrivalCheck`."""

    uuid: str
    name: str
    epoch: int
    level: str
    formats: list[int]
    kbytes: int
    used_bytes: int
    objects: int
    longest_label: int
    largest_object: int
    longest_password: int
    policies: int
    calls: list[str]
    attributes: dict[str, int]


class ArrivalView(View):
    """Answer to an arrival check: the partition with this name fits on the system."""

    name: str


class RecoveredView(View):
    """The result of a recovery: the names of restored partitions, and of those that were given up."""

    restored: list[str]
    given_up: list[str]


class TraceView(View):
    """The trace of a partition after a request: its file, in the folder `traces` of the state.

    `on` is false once the trace has ended, and its file is complete; `ended` is the reason if it has ended
    by itself.  `secrets`: nothing is blanked.  `frames` are in the file, of `bytes` bytes; `lost` frames are
    missing.  `running` is false while the partition is powered off.
    """

    partition: str
    running: bool
    on: bool
    file: str
    secrets: bool
    frames: int
    lost: int
    bytes: int
    ended: str | None


class WritebackView(View):
    """The state of write-behind: partitions that are not durable yet, commits, failures, oldest change.

    `fault` is the NVRAM fault that the operator has set, if it has not ended.
    """

    state: str
    pending: int
    commits: int
    failures: int
    oldest_pending_seconds: float
    last_error: str | None
    fault: str | None


class HealthView(View):
    """The health of a system: `reasons` has a sentence for each trouble.

    `console` is the management console, null for none.  A console that is not connected is no trouble.
    """

    ok: bool
    reasons: list[str]
    version: str
    firmware_level: str
    partitions: int
    running: int
    console: ConsoleLinkView | None
    writeback: WritebackView


class Problem(View, omit_defaults=True):
    """A refusal or an error (RFC 9457, `application/problem+json`).

    `fault` is the party that has to change something.  `rule_id` and `rule` are the broken rule
    (spec/rules.md), `section` is its page, and `code` is the real console's message number where it has one.
    `advised` is true if `detail` has the remedy of this case already; it is left out if false.
    """

    type: str
    title: str
    status: int
    detail: str
    fault: FaultName
    rule_id: str
    rule: str
    section: str
    code: str | None = None
    advised: bool = False


Answered = View | PartitionView
"""The body of an answer that is not plain text."""
