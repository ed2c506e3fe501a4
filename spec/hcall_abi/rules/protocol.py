"""Rules of the data channel: frames, sessions, OPEN, and answers as a client checks them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from hcall_abi.frames import OpenStatus
from hcall_abi.rules.rule import Fault, Rule

_PEER = Fault.PEER
_HEADER = "spec/protocol.md#frame-header"
_FRAMING = "spec/protocol.md#framing"
_HELLO = "spec/protocol.md#hello"
_OPEN = "spec/protocol.md#open"
_HCALL = "spec/protocol.md#hcall"
_HRETURN = "spec/protocol.md#hreturn"
_OPENED = "spec/protocol.md#opened"
_GOODBYE = "spec/protocol.md#goodbye"

# Headers

# The receiver checks these rules by the header alone, before the body arrives. So a refused frame costs no
# memory.
FRAME_MAGIC = Rule("frame.magic", "a frame begins with HCAL", _HEADER, _PEER)
FRAME_VERSION = Rule("frame.version", "the version of a frame is 1", _HEADER, _PEER)
FRAME_FLAGS = Rule("frame.flags", "the flags of a frame are 0", _HEADER, _PEER)
FRAME_TYPE = Rule("frame.type", "a frame type is 1 to 6", _HEADER, _PEER)
FRAME_TAG = Rule("frame.tag", "HELLO and GOODBYE have tag 0", _HEADER, _PEER)
FRAME_LENGTH = Rule("frame.length", "a body is no longer than the receiver accepts", _FRAMING, _PEER)
# If this rule is broken, the peer has closed the stream. So the receiver can only log it: no GOODBYE would
# reach the peer.
FRAME_WHOLE = Rule("frame.whole", "a stream ends between two frames", _FRAMING, _PEER)

# Bodies

# Each way in which a body can be wrong has its own rule: the author of another client needs the field, and
# not only the frame.
HELLO_FIELDS = Rule("hello.fields", "the body of HELLO has all its fields", _HELLO, _PEER)
HELLO_RESERVED = Rule("hello.reserved", "the reserved field of HELLO is 0", _HELLO, _PEER)
HELLO_VERSIONS = Rule("hello.versions", "the lowest version of HELLO is not above the highest", _HELLO, _PEER)
HELLO_NAME = Rule("hello.name", "the name in HELLO is UTF-8", _HELLO, _PEER)
HELLO_END = Rule("hello.end", "nothing follows the name in HELLO", _HELLO, _PEER)
OPEN_FIELDS = Rule("open.fields", "the body of OPEN has all its fields", _OPEN, _PEER)
OPEN_RESERVED = Rule("open.reserved", "the reserved field of OPEN is 0", _OPEN, _PEER)
OPEN_PROOF_KIND = Rule("open.proof-kind", "the proof kind of OPEN is 0 or 1", _OPEN, _PEER)
OPEN_PROOF_ZERO = Rule("open.proof-zero", "with proof kind 0 the proof of OPEN is all zero", _OPEN, _PEER)
OPEN_NAME = Rule("open.name", "the name in OPEN is UTF-8", _OPEN, _PEER)
OPEN_END = Rule("open.end", "nothing follows the name in OPEN", _OPEN, _PEER)
OPENED_FIELDS = Rule("opened.fields", "the body of OPENED has all its fields", _OPENED, _PEER)
OPENED_RESERVED = Rule("opened.reserved", "the reserved field of OPENED is 0", _OPENED, _PEER)
OPENED_LEVEL = Rule("opened.level", "the level in OPENED is UTF-8", _OPENED, _PEER)
OPENED_END = Rule("opened.end", "nothing follows the level in OPENED", _OPENED, _PEER)
GOODBYE_FIELDS = Rule("goodbye.fields", "the body of GOODBYE has all its fields", _GOODBYE, _PEER)
GOODBYE_TEXT = Rule("goodbye.text", "the text in GOODBYE is UTF-8", _GOODBYE, _PEER)
GOODBYE_END = Rule("goodbye.end", "nothing follows the text in GOODBYE", _GOODBYE, _PEER)
HCALL_HEAD = Rule("hcall.head", "the body of HCALL has ten registers and a segment count", _HCALL, _PEER)
HCALL_RESERVED = Rule("hcall.reserved", "reserved fields of HCALL are 0", _HCALL, _PEER)
HCALL_SEGMENTS = Rule("hcall.segments", "HCALL has as many segments as its segment count says", _HCALL, _PEER)
HCALL_ACCESS = Rule("hcall.access", "the access of a segment is 1, 2 or 3", _HCALL, _PEER)
HCALL_BYTES = Rule(
    "hcall.bytes", "the bytes of all readable segments follow, no fewer and no more", _HCALL, _PEER
)
# If two segments had a byte in common, the result would depend on their order.
HCALL_OVERLAP = Rule(
    "hcall.overlap", "segments do not overlap, and end within 64-bit addresses", _HCALL, _PEER
)
HRETURN_HEAD = Rule(
    "hreturn.head", "the body of HRETURN has ten registers and a write count", _HRETURN, _PEER
)
HRETURN_RESERVED = Rule("hreturn.reserved", "reserved fields of HRETURN are 0", _HRETURN, _PEER)
HRETURN_WRITES = Rule("hreturn.writes", "HRETURN has as many writes as its write count says", _HRETURN, _PEER)
HRETURN_BYTES = Rule("hreturn.bytes", "the written bytes follow, no fewer and no more", _HRETURN, _PEER)

# Sessions

SESSION_STATE = Rule(
    "session.state",
    "a frame comes from the end that may send it in this state",
    "spec/protocol.md#states",
    _PEER,
)
SESSION_TAG = Rule(
    "session.tag",
    "answers come in the order of the calls and carry their tags",
    "spec/protocol.md#tags",
    _PEER,
)
SESSION_OVER = Rule("session.over", "no frame follows GOODBYE", _GOODBYE, _PEER)
SESSION_GOODBYE = Rule("session.goodbye", "a session ends with GOODBYE", _GOODBYE, _PEER)

# OPEN

# The server checks in another order than that of these rows: version, partition, proof, power, number of
# sessions (spec/protocol.md#opened).
OPEN_PARTITION = Rule(
    "open.partition",
    "the partition id is one that the listener serves, or 0 where it serves only one",
    _OPENED,
    OpenStatus.NO_SUCH_PARTITION,
)
OPEN_PROOF = Rule(
    "open.proof",
    "a proof is made with the partition's access key; TCP demands one",
    _OPENED,
    OpenStatus.NOT_AUTHORISED,
)
OPEN_POWER = Rule(
    "open.power",
    "the partition is powered on, and its system owns it now",
    _OPENED,
    OpenStatus.NOT_ACTIVATED,
)
OPEN_VERSION = Rule(
    "open.version",
    "the version of OPEN is one that HELLO offers",
    "spec/protocol.md#versions",
    OpenStatus.VERSION_NOT_SUPPORTED,
)
OPEN_SESSIONS = Rule(
    "open.sessions",
    "a session has a place among those of its partition and those of the server",
    "spec/protocol.md#sessions",
    OpenStatus.TOO_MANY_SESSIONS,
)
# Only a client finds this rule broken: there is no server that could answer.
OPEN_PLACE = Rule(
    "open.place",
    "a system listens at the place where a client looks for its partition",
    "spec/protocol.md#opened",
    Fault.OPERATOR,
)
OPEN_RULES: Mapping[OpenStatus, Rule] = MappingProxyType(
    {
        OpenStatus.NO_SUCH_PARTITION: OPEN_PARTITION,
        OpenStatus.NOT_AUTHORISED: OPEN_PROOF,
        OpenStatus.NOT_ACTIVATED: OPEN_POWER,
        OpenStatus.VERSION_NOT_SUPPORTED: OPEN_VERSION,
        OpenStatus.TOO_MANY_SESSIONS: OPEN_SESSIONS,
    }
)
"""The rule behind each answer that refuses OPEN, for the server's log and the client's error."""
OPENED_STATUS = Rule("opened.status", "the status of OPENED is 0 to 5", _OPENED, _PEER)
# Without the server's proof, another program at the server's address would get the guest's passwords.
OPENED_PROOF = Rule(
    "opened.proof",
    "a client that proves its access key gets a proof from the server",
    "spec/protocol.md#proof",
    _PEER,
)

# Calls and answers, as a client checks them

CALL_SIZE = Rule(
    "call.size", "the body of a call is no longer than the server accepts", _FRAMING, Fault.GUEST
)
# A client copies writes into guest memory, so a write elsewhere would let the server change any byte of
# it.
ANSWER_WRITES = Rule(
    "answer.writes", "an answer writes only into the output buffers of its call", _HRETURN, _PEER
)
ANSWER_POLICY = Rule("answer.policy", "a policy word has 32 bits", _HRETURN, _PEER)
ANSWER_WHOLE = Rule("answer.whole", "an answer writes all the bytes that were asked for", _HRETURN, _PEER)
ANSWER_SIZE = Rule("answer.size", "an answer writes as many bytes as its size register says", _HRETURN, _PEER)
ANSWER_CONTINUE = Rule(
    "answer.continue",
    "H_CONTINUE comes with labels and a token",
    "spec/hcalls/get_objectlabels.md#results",
    _PEER,
)
ANSWER_LABELS = Rule(
    "answer.labels",
    "a label list holds as many labels as its count says, and nothing else",
    "spec/structures.md#label-list",
    _PEER,
)
ANSWER_CONFIG = Rule(
    "answer.config",
    "a config block has version 1 to 3, and its reserved bytes are 0",
    "spec/structures.md#config-block",
    _PEER,
)
