"""Rules of the management console: names, sizes, attributes, power, requests, faults on demand."""

from __future__ import annotations

from hcall_abi.bounds import (
    LONGEST_NAME,
    LONGEST_TIMEOUT,
    MAX_COUNT,
    MAX_FAULTS,
    MAX_REQUEST_BODY,
    MAX_SECONDS,
    MAX_STREAMS,
    REQUEST_BODY_SECONDS,
)
from hcall_abi.console import IN_USE_CODE, LARGEST_PARTITION_ID, RESERVED_NAMES
from hcall_abi.rules.rule import Fault, Rule

_OPERATOR = Fault.OPERATOR
_PEER = Fault.PEER
_STATES = "spec/recovery.md#states"
_NAMES = "spec/control.md#names"
_PARTITIONS = "spec/control.md#partitions"
_SIZES = "spec/control.md#sizes"
_ATTRIBUTES = "spec/control.md#attributes"
_POWER = "spec/control.md#power"
_REQUESTS = "spec/control.md#requests"
_BUSY = "spec/faults.md#busy-answers"
_NVRAM = "spec/faults.md#nvram"
_LINK = "spec/control.md#the-console-of-a-system"

# The system

# Another system may have taken over the address of this one. An order of the console must not reach it.
SYSTEM_IDENTITY = Rule(
    "system.identity",
    "a request that names a system by its id is for that system alone",
    _REQUESTS,
    _OPERATOR,
)
SYSTEM_OPERATING = Rule(
    "system.operating",
    "partitions exist, are created and run while the system is in the state Operating",
    _STATES,
    _OPERATOR,
)
RECOVERY_STATE = Rule(
    "recovery.state", "recovery ends in the state Recovery, and begins on an empty system", _STATES, _OPERATOR
)
RECOVERY_COMPLETE = Rule(
    "recovery.complete",
    "recovery ends when every known store is restored, or when the operator gives the rest up",
    "spec/recovery.md#the-end-of-recovery",
    _OPERATOR,
)

# Names

# The name becomes a file name and the name of a socket (`hcall_abi.console.is_partition_name`).
NAME_FORM = Rule(
    "name.form",
    "a name is 1 to 31 letters, digits, dots, dashes or underscores, starts with a letter or digit, "
    f"and not {', '.join(RESERVED_NAMES[:-1])} or {RESERVED_NAMES[-1]}",
    _NAMES,
    _OPERATOR,
)
NAME_EXISTS = Rule("name.exists", "the partition exists", _NAMES, _OPERATOR)
NAME_NEW = Rule("name.new", "no two partitions of a system have the same name", _NAMES, _OPERATOR)
# The unreadable record may have the wanted name. Then two partitions would have the same name.
NAME_UNREADABLE = Rule(
    "name.unreadable",
    "no partition is made or renamed while the name of a stored one cannot be read",
    _NAMES,
    _OPERATOR,
)
NAME_PATH = Rule(
    "name.path",
    f"a name in a request has 1 to {LONGEST_NAME} characters, and is neither '.' nor '..'",
    _NAMES,
    _OPERATOR,
)
PARTITION_ID = Rule(
    "partition.id", f"a system has at most {LARGEST_PARTITION_ID} partitions", _NAMES, _OPERATOR
)

# Partitions as a whole

PARTITION_NUMBER = Rule(
    "partition.number",
    f"a partition id is 1 to {LARGEST_PARTITION_ID}, and no two partitions of a system have the same",
    _NAMES,
    _OPERATOR,
)
PARTITION_OFF = Rule(
    "partition.off", "a partition is renamed and deleted while it is powered off", _PARTITIONS, _OPERATOR
)
PARTITION_EMPTY = Rule(
    "partition.empty",
    "a partition that holds objects, or was refused, is deleted only if they are to be destroyed",
    _PARTITIONS,
    _OPERATOR,
)
PARTITION_STORED = Rule(
    "partition.stored",
    "a deletion, a change of a partition and a name of the system are durable when they are answered",
    _PARTITIONS,
    Fault.STORAGE,
)

# Sizes

# The real console's rules for `keystore_kbytes`, in the order of their checks.
SIZE_RANGE = Rule("size.range", "a size is 0, or in the range of the firmware level", _SIZES, _OPERATOR)
SIZE_TOTAL = Rule("size.total", "all keystores of a system stay within its total", _SIZES, _OPERATOR)
SIZE_IN_USE = Rule("size.in-use", "only an empty keystore is switched off", _SIZES, _OPERATOR, IN_USE_CODE)
SIZE_SHRINKS = Rule("size.shrinks", "a keystore never shrinks, except to 0", _SIZES, _OPERATOR)
# A keystore may be switched off in every power state, as on the real console.
SIZE_RUNNING = Rule(
    "size.running",
    "a keystore is switched on or grown while the partition is powered off",
    _SIZES,
    _OPERATOR,
)

# Attributes

ATTRIBUTE_KNOWN = Rule(
    "attribute.known", "an attribute has one of the names in the table", _ATTRIBUTES, _OPERATOR
)
ATTRIBUTE_FORM = Rule(
    "attribute.form", "an attribute is given once, as ATTRIBUTE=VALUE", _ATTRIBUTES, _OPERATOR
)
ATTRIBUTE_RANGE = Rule("attribute.range", "an attribute has a number in its range", _ATTRIBUTES, _OPERATOR)
# This rule protects the latch: an operator can arm a used latch again only while the partition is powered
# off.
ATTRIBUTE_RUNNING = Rule(
    "attribute.running",
    "attributes of signed updates change while the partition is powered off",
    _ATTRIBUTES,
    _OPERATOR,
)
# A capable partition asks its console before it serves. A running partition that became capable would serve
# without having asked.
ATTRIBUTE_IDLE = Rule(
    "attribute.idle",
    "simplified_remote_restart_capable changes while the partition is powered off",
    _ATTRIBUTES,
    _OPERATOR,
)
ATTRIBUTE_KEYSTORE = Rule(
    "attribute.keystore",
    "attributes of signed updates need a keystore_kbytes above 0",
    _ATTRIBUTES,
    _OPERATOR,
)
ATTRIBUTE_NEEDS = Rule(
    "attribute.needs",
    "an attribute is on only with the h-call or the attribute that it needs",
    _ATTRIBUTES,
    _OPERATOR,
)
# Without signed updates no call could change these objects.
ATTRIBUTE_IN_USE = Rule(
    "attribute.in-use",
    "signed updates and dynamic keys are switched off only while no object of signed updates exists",
    _ATTRIBUTES,
    _OPERATOR,
    IN_USE_CODE,
)

# Power

POWER_STOPPED = Rule("power.stopped", "only a stopped partition is powered on", _POWER, _OPERATOR)
POWER_RUNNING = Rule("power.running", "only a running partition is stopped or restarted", _POWER, _OPERATOR)
# Clients and guests recognise an IPL by its count. So no two IPLs may have the same count, even after a
# crash.
POWER_COUNTED = Rule(
    "power.counted",
    "an IPL takes effect once NVRAM has stored its IPL count",
    _POWER,
    Fault.STORAGE,
)
POWER_OPENED = Rule(
    "power.opened",
    "a partition whose stored keystore cannot be opened does not start",
    "spec/sealed.md#refusals",
    _OPERATOR,
)
# A damaged record may hold objects, and may be repaired later. A change would replace the record.
POWER_STORED = Rule(
    "power.stored",
    "a partition whose stored keystore could not be opened stays as it was stored",
    _POWER,
    _OPERATOR,
)

# Requests of the control channel

REQUEST_FORM = Rule(
    "request.form", "a body has the fields of its verb, and no verb takes a query", _REQUESTS, _PEER
)
REQUEST_PATH = Rule("request.path", "the path is that of a verb", _REQUESTS, _PEER)
REQUEST_METHOD = Rule("request.method", "the method is one of those that the path has", _REQUESTS, _PEER)
REQUEST_TIME = Rule(
    "request.time",
    f"a body arrives within {REQUEST_BODY_SECONDS:.0f} seconds of its header",
    _REQUESTS,
    _PEER,
)
REQUEST_SIZE = Rule("request.size", f"a body has at most {MAX_REQUEST_BODY} bytes", _REQUESTS, _PEER)
REQUEST_JSON = Rule("request.json", "the media type of a body is application/json", _REQUESTS, _PEER)
REQUEST_ANSWERED = Rule(
    "request.answered", "a request does not fail inside the server", _REQUESTS, Fault.INTERNAL
)

# Fault plans

FAULT_FORM = Rule("fault.form", "a fault is HCALL=STATUS[,nth=N][,times=K|,seconds=S]", _BUSY, _OPERATOR)
FAULT_CALL = Rule("fault.call", "a fault names an h-call of the table", _BUSY, _OPERATOR)
FAULT_STATUS = Rule(
    "fault.status",
    "a busy status is H_BUSY or an H_LONG_BUSY_ORDER_* that the h-call may return",
    _BUSY,
    _OPERATOR,
)
FAULT_LASTING = Rule(
    "fault.lasting", "a fault lasts a number of times or of seconds, not both", _BUSY, _OPERATOR
)
FAULT_COUNT = Rule("fault.count", f"nth and times are 1 to {MAX_COUNT}", _BUSY, _OPERATOR)
FAULT_SECONDS = Rule("fault.seconds", f"seconds are above 0 and at most {MAX_SECONDS:.0f}", _BUSY, _OPERATOR)
FAULT_PLAN = Rule("fault.plan", f"a plan has at most {MAX_FAULTS} faults", _BUSY, _OPERATOR)
TROUBLE_KNOWN = Rule(
    "trouble.known", "a trouble of NVRAM is full, io, busy, corrupt or stall", _NVRAM, _OPERATOR
)
# A commit that hangs does not return, so a number of stalls has no meaning.
TROUBLE_STALL = Rule("trouble.stall", "a stall lasts until it is ended", _NVRAM, _OPERATOR)
TROUBLE_COUNT = Rule(
    "trouble.count", f"nth and times are 1 or more, commits are 1 to {MAX_COUNT}", _NVRAM, _OPERATOR
)
TROUBLE_COMMITS = Rule("trouble.commits", "only full and io take a number of commits", _NVRAM, _OPERATOR)

# The console of a system, and its stream of events

# An open stream shows that the attached console runs. If there is no stream, another console may take over.
CONSOLE_ATTACHED = Rule(
    "console.attached",
    "another console takes a system over only while the attached one has no stream open",
    _LINK,
    _OPERATOR,
)
CONSOLE_KNOWN = Rule(
    "console.known",
    "a console's stream, its kept copies and its detachment are those of the attached console",
    _LINK,
    _OPERATOR,
)
# A console may say that it has a copy newer than the store. If the system believed it, later changes would
# count as saved, but no copy would have them.
CONSOLE_COPY = Rule(
    "console.copy", "a kept copy is one of this partition, and not newer than its store", _LINK, _OPERATOR
)
CONSOLE_STORED = Rule(
    "console.stored",
    "attachments, detachments, stored copies and forgotten copies of a console are durable when answered",
    _LINK,
    Fault.STORAGE,
)
EVENTS_STREAMS = Rule(
    "events.streams",
    f"at most {MAX_STREAMS} streams of events are open at once, one of them the console's",
    "spec/control.md#events",
    _OPERATOR,
)

# A client of the control channel

CONSOLE_SERVED = Rule(
    "console.served",
    "a server serves its control channel at this place",
    "spec/service.md#sockets",
    _OPERATOR,
)
CONSOLE_ANSWER = Rule(
    "console.answer", "an answer has a status and a body that its verb lists", "spec/control.md#verbs", _PEER
)
CONSOLE_TIMEOUT = Rule(
    "console.timeout",
    f"a timeout is above 0 and at most {LONGEST_TIMEOUT:.0f} seconds",
    "spec/control.md#the-command",
    _OPERATOR,
)
CONSOLE_PLACE = Rule(
    "console.place",
    "a system is reached at the path of its control socket, or at https://HOST:PORT with TLS files",
    "spec/control.md#over-tcp",
    _OPERATOR,
)
