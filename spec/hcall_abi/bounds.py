"""Sizes and times that are no arguments of h-calls: of requests, fault plans, settings, sockets, keys.

The code that checks a bound, and the rule that states it (`hcall_abi.rules`), both use these constants.
"""

from __future__ import annotations

MAX_FAULTS = 64
"""Most faults in one plan (spec/faults.md#busy-answers)."""

MAX_COUNT = 1_000_000
"""Largest `nth` and `times` of a fault."""

MAX_SECONDS = 3600.0
"""Longest `seconds` of a fault: no guest waits for ever."""

MAX_REQUEST_BODY = 256 * 1024
"""Largest body of a request to the control channel, in bytes (spec/control.md#requests)."""

REQUEST_BODY_SECONDS = 10.0
"""Longest time from the header of a request to the end of its body, in seconds."""

LONGEST_NAME = 255
"""Most characters of a partition's name in a request.  Real names are shorter (spec/control.md#names)."""

LONGEST_TIMEOUT = 86400.0
"""Longest timeout of a client of the control channel, in seconds: a day."""

MAX_STREAMS = 8
"""Most streams of events at once (spec/control.md#events)."""

# This is a third of the silence after which a client ends the stream (`hcall_client.events`).
HEARTBEAT_SECONDS = 10.0
"""Longest time between two pieces of a stream of events, in seconds."""

MIN_COPY_INTERVAL_S = 0.01
"""Shortest time between two searches for changed stores, in seconds."""

MAX_COPY_INTERVAL_S = 86_400
"""Longest time between two searches for changed stores, in seconds: a day."""

# etcd grants no shorter lease: 1.5 times its usual time for an election, in whole seconds.
MIN_NVRAM_LEASE_S = 2
"""Shortest lease of an owner of NVRAM in etcd, in seconds."""

MAX_NVRAM_LEASE_S = 60
"""Longest lease of an owner of NVRAM in etcd, in seconds: no server serves the system for that long."""

MAX_FLUSH_DELAY_MS = 60_000
"""Longest time that a change may wait before it is written, in milliseconds: a minute."""

MAX_CONFIRM_WAIT_MS = 1000
"""Longest time that a CONFIRM may wait for its flush, in milliseconds: no h-call takes much longer."""

MAX_LIMIT = 1_000_000
"""Largest limit of sessions and connections, in seconds or as a number (spec/service.md#configuration)."""

MAX_TOTAL_KBYTES = 1 << 20
"""Largest PKS total of a system in KiB: 1 GiB, far above that of every firmware level."""

# sun_path of <sys/un.h>; Python raises an OSError without a number for a longer path.
LONGEST_SOCKET_PATH = 107
"""Most bytes in the path of a Unix socket: the 108 of Linux without the terminator."""

ACCESS_KEY_SIZE = 32
"""Length of a partition's access key in bytes (spec/protocol.md#proof)."""

TRUSTED_KEY_SIZE = 32
"""Length of a trusted system key in bytes (spec/sealed.md#trusted-system-key)."""

CONSOLE_ID_SIZE = 16
"""Length of a management console's id in bytes (spec/sealed.md#console-record)."""

SYSTEM_NAME_SIZE = 31
"""Most bytes of a managed system's name (spec/sealed.md#system-record)."""

TOKEN_SIZE = 32
"""Bytes of the one-time token of a migration's channel."""
MAX_FINAL = 256 * 1024
"""Most bytes of a partition that travels: FINAL of spec/migration.md."""
HOLD_SECONDS = 1.0
"""Seconds for which every call of a frozen partition is held.  Later calls that list H_R_STATE answer it."""
MAX_EPOCH = 1 << 62
"""The largest number of an attempt: the console stores numbers of 63 bits, and never reaches it."""
MAX_BARRED = 4096
"""Most bars that a system stores for partitions that were never here."""

MIN_TRACE_MB = 0.01
"""Smallest limit of the file of a trace, in MB (a million bytes): some dozen frames."""
MAX_TRACE_MB = 1_000_000
"""Largest limit of the file of a trace, in MB."""

SHORTEST_PASSPHRASE = 12
"""Fewest characters of the passphrase of a portable snapshot (spec/snapshots.md#portable)."""
LONGEST_PASSPHRASE = 1024
"""Most characters of that passphrase."""
LONGEST_SNAPSHOT_NAME = 64
"""Most characters of the name of a snapshot."""
MOST_SNAPSHOTS = 256
"""Most snapshots in the folder of one state."""
LARGEST_SNAPSHOT = 64 << 20
"""Most bytes of one snapshot: more than the PKS total of every firmware level."""
