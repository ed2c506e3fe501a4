"""Rules of custody and migration: who may serve a partition, and how it moves (spec/migration.md)."""

from __future__ import annotations

from hcall_abi.rules.rule import Fault, Rule

_OPERATOR = Fault.OPERATOR
_CUSTODY = "spec/migration.md#custody"
_VALIDATION = "spec/migration.md#validation"
_CHANNEL = "spec/migration.md#the-channel"
_ORDERS = "spec/migration.md#orders"
_RESTART = "spec/migration.md#remote-restart"

# Custody

# All other rules of this chapter serve this one: a partition has one owner at every moment.
CUSTODY_OWNED = Rule(
    "custody.owned", "a system serves and changes only partitions that it owns", _CUSTODY, _OPERATOR
)
# While the partition's system was down, the console may have restarted the partition on another system.
CUSTODY_CONFIRMED = Rule(
    "custody.confirmed",
    "a partition that may be restarted remotely starts only after its console has agreed",
    _RESTART,
    _OPERATOR,
)
CUSTODY_IDLE = Rule("custody.idle", "a partition takes part in one migration at a time", _CUSTODY, _OPERATOR)
# A message of an older attempt may arrive late. The system ignores it, because its attempt has a smaller
# number.
CUSTODY_EPOCH = Rule(
    "custody.epoch", "an attempt has a larger number than every one before it", _CUSTODY, _OPERATOR
)
CUSTODY_STORED = Rule(
    "custody.stored",
    "a step of a migration is durable before it is reported",
    _CUSTODY,
    Fault.STORAGE,
)
CUSTODY_UUID = Rule(
    "custody.uuid", "a request about a migration names its partition by its UUID", _CUSTODY, _OPERATOR
)
# A bar is a durable record about a partition without a store here. Nothing else bounds the number of such
# records.
CUSTODY_BARRED = Rule(
    "custody.barred",
    "a system stores at most 4,096 bars of partitions that were never here",
    _CUSTODY,
    _OPERATOR,
)
CUSTODY_RECORD = Rule(
    "custody.record",
    "the custody record and the records of partitions do not contradict each other",
    "spec/sealed.md#custody-record",
    Fault.STORAGE,
)

# Validation

ARRIVAL_LEVEL = Rule(
    "arrival.level",
    "a partition with a keystore moves only to a system whose firmware level has one",
    _VALIDATION,
    _OPERATOR,
)
ARRIVAL_SIZE = Rule(
    "arrival.size",
    "the target's level and its free space allow the size of the keystore",
    _VALIDATION,
    _OPERATOR,
)
ARRIVAL_OBJECTS = Rule(
    "arrival.objects",
    "the target's level allows every label and object of the keystore",
    _VALIDATION,
    _OPERATOR,
)
ARRIVAL_PASSWORD = Rule(
    "arrival.password", "the target's level allows every password that is set", _VALIDATION, _OPERATOR
)
ARRIVAL_CALLS = Rule(
    "arrival.calls",
    "the target's level has the h-calls that made the objects of the keystore",
    _VALIDATION,
    _OPERATOR,
)
ARRIVAL_NAME = Rule("arrival.name", "the name of the partition is free at the target", _VALIDATION, _OPERATOR)
ARRIVAL_FORMAT = Rule(
    "arrival.format",
    "source and target know a common format of a partition that travels",
    _VALIDATION,
    _OPERATOR,
)
ARRIVAL_CUSTODY = Rule(
    "arrival.custody",
    "the target neither owns the partition nor holds a copy of a later attempt",
    _VALIDATION,
    _OPERATOR,
)

# The channel

MOBILITY_LISTENS = Rule(
    "mobility.listens", "the target of a live migration listens for other systems", _CHANNEL, _OPERATOR
)
MOBILITY_REACHED = Rule(
    "mobility.reached", "the source of a live migration reaches its target", _CHANNEL, _OPERATOR
)
MOBILITY_PROVEN = Rule(
    "mobility.proven", "both ends of the channel hold the token of this attempt", _CHANNEL, Fault.PEER
)
MOBILITY_FORM = Rule(
    "mobility.form",
    "every message of the channel has the documented form, and comes in its turn",
    _CHANNEL,
    Fault.PEER,
)
MOBILITY_SIZE = Rule("mobility.size", "a partition that travels has 256 KiB at most", _CHANNEL, Fault.PEER)
MOBILITY_TIME = Rule("mobility.time", "each end of the channel answers in time", _CHANNEL, Fault.PEER)

# Orders of the console

MIGRATION_SYSTEMS = Rule(
    "migration.systems", "source and target are two systems of this console", _ORDERS, _OPERATOR
)
MIGRATION_POWER = Rule(
    "migration.power",
    "a live migration needs a partition that runs, an inactive one a partition that is powered off",
    _ORDERS,
    _OPERATOR,
)
MIGRATION_RUNNING = Rule(
    "migration.running",
    "only a migration that has begun and not ended can be stopped or recovered",
    _ORDERS,
    _OPERATOR,
)
# The point of no return is the source's durable RELEASED: from then on only the target may serve.
MIGRATION_DECIDED = Rule(
    "migration.decided",
    "a migration that has passed its point of no return can't be stopped",
    _ORDERS,
    _OPERATOR,
)
MIGRATION_FORCE = Rule(
    "migration.force",
    "a target is forced only if it has the copy of an attempt whose source was not ordered to resume",
    _ORDERS,
    _OPERATOR,
)
MIGRATION_FAILED = Rule(
    "migration.failed",
    "the attempt ended at its source, which serves the partition again",
    _ORDERS,
    _OPERATOR,
)
RESTART_CAPABLE = Rule(
    "restart.capable",
    "only a partition with simplified_remote_restart_capable=1 is restarted remotely",
    _RESTART,
    _OPERATOR,
)
# The console can't know whether a system that is not connected still runs. The partitions of a connected
# system are migrated instead.
RESTART_SOURCE = Rule(
    "restart.source",
    "a partition is restarted remotely only while its own system is not connected",
    _RESTART,
    _OPERATOR,
)
RESTART_COPY = Rule(
    "restart.copy", "a remote restart needs a copy of the partition on the console", _RESTART, _OPERATOR
)
# The console has the copies but no key to open them.
RESTART_KEY = Rule(
    "restart.key",
    "source and target have the same trusted system key, set up ahead of time",
    _RESTART,
    _OPERATOR,
)
RESTART_TARGET = Rule(
    "restart.target",
    "the target of an unfinished attempt is reachable, and is barred before the partition restarts elsewhere",
    _RESTART,
    _OPERATOR,
)
RESTART_CLEANUP = Rule(
    "restart.cleanup",
    "a partition is cleaned up at its old system, after another system serves it or has deleted it",
    _RESTART,
    _OPERATOR,
)
