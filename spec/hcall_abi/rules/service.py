"""Rules of the server process, of physical presence, and of `swpks qemu`."""

from __future__ import annotations

from hcall_abi.bounds import (
    LONGEST_SOCKET_PATH,
    MAX_CONFIRM_WAIT_MS,
    MAX_COPY_INTERVAL_S,
    MAX_FLUSH_DELAY_MS,
    MAX_LIMIT,
    MAX_TOTAL_KBYTES,
    MAX_TRACE_MB,
    MIN_COPY_INTERVAL_S,
    MIN_TRACE_MB,
)
from hcall_abi.rules.rule import Fault, Rule

_OPERATOR = Fault.OPERATOR
_PEER = Fault.PEER
_CONFIGURATION = "spec/service.md#configuration"
_COMMANDS = "spec/service.md#commands"
_SOCKETS = "spec/service.md#sockets"
_OVER_TCP = "spec/control.md#over-tcp"
_METRICS_TCP = "spec/control.md#metrics-over-tcp"
_STREAMS = "spec/service.md#streams"
_TRACE = "spec/service.md#trace"
_STOPPING = "spec/service.md#stopping"
_SCARCITY = "spec/service.md#scarcity"
_PRESENCE = "spec/erase.md#physical-presence"
_PARTITION = "spec/qemu.md#the-partition"
_MACHINE = "spec/qemu.md#the-machine"

# Configuration

CONFIG_FILE = Rule(
    "config.file",
    "the configuration file can be read, and is TOML with the documented fields and types",
    _CONFIGURATION,
    _OPERATOR,
)
FAIL_POINT_KNOWN = Rule(
    "fail-point.known",
    "SWPKS_FAIL_AT, which is for tests, is the name of a fail-point",
    "spec/migration.md#fail-points",
    _OPERATOR,
)
SYSTEM_NAME_FORM = Rule(
    "system.name-form",
    "the name of a system is 1 to 31 letters, digits, blanks, dots, dashes and underscores",
    _CONFIGURATION,
    _OPERATOR,
)
TPM_COUNT = Rule("tpm.count", "a system has one TPM, or two different ones", _CONFIGURATION, _OPERATOR)
FIRMWARE_KNOWN = Rule(
    "firmware.known", "the firmware level is in the table of spec/levels.md", _CONFIGURATION, _OPERATOR
)
TOTAL_RANGE = Rule(
    "total.range",
    f"the PKS total of a system is 1 to {MAX_TOTAL_KBYTES} KiB",
    _CONFIGURATION,
    _OPERATOR,
)
FLUSH_DELAY_RANGE = Rule(
    "flush-delay.range",
    f"a change waits 0 to {MAX_FLUSH_DELAY_MS} ms before it is written",
    _CONFIGURATION,
    _OPERATOR,
)
# Later calls of the connection wait behind a CONFIRM, so its wait is short.
CONFIRM_WAIT_RANGE = Rule(
    "confirm-wait.range",
    f"a CONFIRM waits 0 to {MAX_CONFIRM_WAIT_MS} ms for its flush",
    _CONFIGURATION,
    _OPERATOR,
)
COPY_INTERVAL_RANGE = Rule(
    "copy-interval.range",
    f"changed stores are looked for every {MIN_COPY_INTERVAL_S:g} to {MAX_COPY_INTERVAL_S} seconds",
    _CONFIGURATION,
    _OPERATOR,
)
TRACE_LIMIT = Rule(
    "trace.limit",
    f"the file of a trace has {MIN_TRACE_MB:g} to {MAX_TRACE_MB} MB at most",
    _TRACE,
    _OPERATOR,
)
# A file that is there may be the trace of yesterday, or anything else: --trace is often in a script.
TRACE_FILE = Rule(
    "trace.file",
    "--trace names a new file, in a folder that the server can write; in the state only in `traces`",
    _TRACE,
    _OPERATOR,
)
TRACE_SECRETS = Rule("trace.secrets", "--trace-secrets stands with --trace", _TRACE, _OPERATOR)
TRACE_WORD = Rule("trace.word", "a trace is off, blanked or secrets", _TRACE, _OPERATOR)
TRACE_ONCE = Rule(
    "trace.once",
    "a partition has one trace at a time",
    _TRACE,
    _OPERATOR,
)
TRACE_BEGUN = Rule(
    "trace.begun",
    "a trace that is ended was begun before",
    _TRACE,
    _OPERATOR,
)
TRACE_STORED = Rule(
    "trace.stored",
    "the folder `traces` of the state takes the file of a trace",
    _TRACE,
    Fault.STORAGE,
)
LISTEN_FORM = Rule(
    "listen.form",
    "a listener is tcp:HOST:PORT, with brackets around an IPv6 address, and port 0 for a free one",
    _CONFIGURATION,
    _OPERATOR,
)
# 0 idle seconds mean no limit (spec/protocol.md#deadlines).
LIMIT_RANGE = Rule(
    "limit.range",
    f"a limit is above 0 and at most {MAX_LIMIT}; idle_seconds alone may be 0",
    _CONFIGURATION,
    _OPERATOR,
)
COMMAND_FOLDER = Rule(
    "command.folder",
    "a command with a relative path runs in a folder that exists",
    "spec/service.md#files",
    _OPERATOR,
)
EXPLAIN_KNOWN = Rule(
    "explain.known",
    "swpks explain takes a name or number of the contract's tables, or a page with or without a heading",
    "spec/rules.md#explain",
    _OPERATOR,
)
COMMAND_USAGE = Rule(
    "command.usage",
    "a command line has the options, words and values that its --help lists",
    _COMMANDS,
    _OPERATOR,
)
COMMAND_FILE = Rule(
    "command.file",
    "a command can read each file that it is given, and write each output",
    "spec/service.md#files",
    _OPERATOR,
)
COMMAND_INPUT = Rule(
    "command.input",
    "a file or standard input whose content a command sends has at least one byte",
    "spec/service.md#files",
    _OPERATOR,
)
COMMAND_AUTH_FILE = Rule(
    "command.auth-file",
    "the file of an update is a signed payload, behind 8 bytes of flags or with --flags",
    "spec/secure-boot-variables.md#auth-file",
    _OPERATOR,
)
COMMAND_SOCKET = Rule(
    "command.socket",
    "a socket that is given to a command or function is of the kind that it needs",
    _COMMANDS,
    _OPERATOR,
)
COMMAND_PARTITION = Rule(
    "command.partition",
    "the socket or the access key of a command is that of the partition NAME, if a state has both",
    _COMMANDS,
    _OPERATOR,
)
COMMAND_ANSWERED = Rule(
    "command.answered", "a server answers a command within its --timeout", _COMMANDS, _PEER
)
CONFORMANCE_PARTITION = Rule(
    "conformance.partition",
    "a judged partition has an empty keystore, and no consumer has a password in this IPL",
    "spec/conformance.md#a-server",
    _OPERATOR,
)
CONFORMANCE_SESSION = Rule(
    "conformance.session",
    "a judged server opens a session of version 1, within the patience of the judge",
    "spec/conformance.md#a-server",
    _PEER,
)
CONFORMANCE_CLIENT = Rule(
    "conformance.client",
    "a client that is judged answers the command begin with the word ready and its name",
    "spec/conformance.md#line-protocol",
    _PEER,
)
COMMAND_DURABLE = Rule(
    "command.durable", "a change with --wait is durable within five seconds", _COMMANDS, Fault.STORAGE
)
PARTITION_FORM = Rule(
    "partition.form",
    "a partition of the command line is NAME[:KBYTES][,ATTRIBUTE=VALUE...]",
    _CONFIGURATION,
    _OPERATOR,
)
# The command line may repeat a partition of the file, because it overrides the file. Two entries in the file,
# or two on the command line, contradict each other.
PARTITION_TWICE = Rule("partition.twice", "the settings name each partition once", _CONFIGURATION, _OPERATOR)

# Sockets

SOCKET_PATH = Rule(
    "socket.path", f"the path of a Unix socket has at most {LONGEST_SOCKET_PATH} bytes", _SOCKETS, _OPERATOR
)
SOCKET_FOLDER = Rule("socket.folder", "the folder of a socket exists and is writable", _SOCKETS, _OPERATOR)
# Any other file there may be the operator's, and is never removed.
SOCKET_PLACE = Rule(
    "socket.place", "at the path of a socket there is nothing, or an old socket", _SOCKETS, _OPERATOR
)
SOCKET_ADDRESS = Rule("socket.address", "the address of a listener is free and local", _SOCKETS, _OPERATOR)
SOCKET_COUNT = Rule("socket.count", "LISTEN_FDS is a number of at most four digits", _SOCKETS, _OPERATOR)
SOCKET_NAMES = Rule("socket.names", "LISTEN_FDNAMES names every socket", _SOCKETS, _OPERATOR)
# A descriptor that the service manager has not passed is free. This process may open a file under its number
# later, such as NVRAM.
SOCKET_PASSED = Rule(
    "socket.passed",
    "LISTEN_FDS is the number of passed descriptors; all are sockets",
    _SOCKETS,
    _OPERATOR,
)
SOCKET_LISTENS = Rule(
    "socket.listens", "passed sockets listen for streams, by TCP or at a path", _SOCKETS, _OPERATOR
)
SOCKET_CONTROL = Rule(
    "socket.control",
    "the control channel is a Unix socket, which only the operator can open",
    _SOCKETS,
    _OPERATOR,
)
SOCKET_OWNER = Rule(
    "socket.owner",
    "a passed socket is named for a partition, tcp or control, each once; a single socket needs no name",
    _SOCKETS,
    _OPERATOR,
)

# The control channel over TCP

TLS_COMPLETE = Rule(
    "tls.complete",
    "the control channel over TCP has an address, a certificate, its key and a CA file: all four, or none",
    _OVER_TCP,
    _OPERATOR,
)
TLS_FILES = Rule(
    "tls.files",
    "certificate, key and CA file can be read, are in PEM without a passphrase, and the key fits",
    _OVER_TCP,
    _OPERATOR,
)
TLS_KEY_PRIVATE = Rule(
    "tls.key-private", "only its owner has access to the file of a private key", _OVER_TCP, _OPERATOR
)
TLS_HANDSHAKE = Rule(
    "tls.handshake",
    "a client over TCP shows a certificate of the CA, by TLS 1.3 and in time",
    _OVER_TCP,
    _PEER,
)
METRICS_LOOPBACK = Rule(
    "metrics.loopback",
    "metrics are served at an address of loopback, or at another one with --insecure-listen",
    _METRICS_TCP,
    _OPERATOR,
)

# Start and stop

READY_DESCRIPTOR = Rule(
    "ready.descriptor",
    "--ready-fd is a descriptor that was passed to the server, open for writing",
    "spec/service.md#ready",
    _OPERATOR,
)
# If descriptor 0, 1 or 2 is closed, the next opened file gets its number. Log lines would then go into that
# file.
STREAM_CLOSED = Rule(
    "stream.closed", "a standard stream that is closed at start is replaced by /dev/null", _STREAMS, _OPERATOR
)
STREAM_OUTPUT = Rule("stream.output", "standard output takes the output of a command", _STREAMS, _OPERATOR)
STOP_SOCKETS = Rule("stop.sockets", "a server that stops opens no more sockets", _STOPPING, _OPERATOR)
STOP_FLUSHED = Rule(
    "stop.flushed", "changes in memory are flushed before the server ends", _STOPPING, Fault.STORAGE
)

# Scarcity: resources that the host gives to the process

SCARCE_DESCRIPTORS = Rule(
    "scarce.descriptors", "the process has a free descriptor for each file and socket", _SCARCITY, _OPERATOR
)
SCARCE_MEMORY = Rule("scarce.memory", "the system has memory for each request", _SCARCITY, _OPERATOR)
SCARCE_THREADS = Rule(
    "scarce.threads", "the system starts each thread that the server needs", _SCARCITY, _OPERATOR
)
SCARCE_ENTROPY = Rule(
    "scarce.entropy", "the system returns as many random bytes as the server asks for", _SCARCITY, _OPERATOR
)
SCARCE_SPACE = Rule(
    "scarce.space",
    "the file system of the state has space and takes each write",
    _SCARCITY,
    Fault.STORAGE,
)

# Physical presence

PRESENCE_FILE = Rule(
    "presence.file",
    "the presence file is a plain file of the user who runs the command",
    _PRESENCE,
    _OPERATOR,
)
PRESENCE_WORD = Rule(
    "presence.word", "the presence file holds the word that the command has asked for", _PRESENCE, _OPERATOR
)

# A kernel in QEMU

KERNEL_IMAGE = Rule(
    "kernel.image",
    "the kernel is an uncompressed ppc64le ELF file with its symbols and CONFIG_PSERIES_PLPKS",
    "spec/qemu.md#the-kernel",
    _OPERATOR,
)
KERNEL_BOOTED = Rule(
    "kernel.booted",
    "the kernel that a boot loader starts from the disk is the one of --kernel",
    "spec/qemu.md#a-boot-from-a-disk",
    _OPERATOR,
)
LOADER_IMAGE = Rule(
    "loader.image",
    "the disk has a PReP partition that begins with a 32-bit big-endian ELF file for PowerPC",
    "spec/qemu.md#a-boot-from-a-disk",
    _OPERATOR,
)
FIRMWARE_SERVICES = Rule(
    "firmware.services",
    "the machine's firmware is SLOF, with the client interface of IEEE 1275 and `interpret`",
    "spec/qemu.md#client-services",
    _OPERATOR,
)
MACHINE_RUNS = Rule(
    "machine.runs",
    "qemu-system-ppc64 is installed, finds its files, and ends without an error",
    _MACHINE,
    _OPERATOR,
)
STUB_ANSWERS = Rule(
    "stub.answers",
    "the gdb stub answers every request as the remote serial protocol says",
    "spec/qemu.md#the-stub",
    _PEER,
)
TREE_SOUND = Rule(
    "tree.sound",
    "the device tree is well formed, lists the h-call functions, and ends in padding",
    "spec/qemu.md#the-device-tree",
    _PEER,
)
GUEST_STOPS = Rule(
    "guest.stops", "the guest stops only at the bridge's breakpoints", "spec/qemu.md#stops", _PEER
)
PARTITION_SERVED = Rule(
    "partition.served", "the partition exists, and its control channel is served", _PARTITION, _OPERATOR
)
PARTITION_SIZE = Rule(
    "partition.size", "a running server keeps the sizes that its console has set", _PARTITION, _OPERATOR
)
# A second machine would IPL the partition of the first, which then loses its session and its password.
PARTITION_MACHINE = Rule(
    "partition.machine", "one machine at a time runs on a partition", _PARTITION, _OPERATOR
)
SERVER_STARTS = Rule("server.starts", "a server starts on the state folder", _PARTITION, _OPERATOR)
