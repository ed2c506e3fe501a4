"""Rules of all h-calls, except the contents of signed updates: checks, arguments, objects, policies.

A rule with a status is about the whole call.  A positional rule is about one argument: its status is that
of the argument's register (`hcall_abi.statuses.positional`).
"""

from __future__ import annotations

from hcall_abi.rules.rule import Fault, Positional, Rule
from hcall_abi.statuses import Status
from hcall_abi.structures import CONFIG_MIN_SIZE
from hcall_abi.wrapping import AES_256_GCM, MAX_WRAP_INPUT, WRAP_OVERHEAD, WRAPPING_KEY_SIZE

MIN_GENERATED_PASSWORD = 32
"""Shortest password that GEN_PASSWORD makes, in bytes: the least maximum that the ABI allows."""

_ARGUMENT = Positional.ARGUMENT
_AUTHORITY = Status.H_AUTHORITY
_ORDER = "spec/hcalls/index.md#order-of-checks"
_STRICT = "spec/hcalls/index.md#strict-memory"
_BLOCK = "spec/structures.md#authorization-block"
_LABEL = "spec/structures.md#label"
_WORDS = "spec/policies.md#words-that-are-refused"
_PASSWORDS = "spec/policies.md#passwords"
_VERDICTS = "spec/policies.md#verdicts"
_WRAP = "spec/hcalls/wrap_object.md#checks"
_FLAGS = "spec/hcalls/wrap_object.md#wrap-flags"
_UNWRAP = "spec/hcalls/unwrap_object.md#checks"

# Before the arguments

# These three rules have the same status, so the guest sees no difference. They are separate, because the log
# names the rule, and each has another remedy.
CALL_KEYSTORE = Rule("call.keystore", "the keystore has a size above 0", _ORDER, Status.H_FUNCTION)
CALL_SERVED = Rule("call.served", "the partition's firmware level has the h-call", _ORDER, Status.H_FUNCTION)
CALL_SWITCHED = Rule(
    "call.switched",
    "the console has the h-call switched on for the partition",
    "spec/control.md#attributes",
    Status.H_FUNCTION,
)
CALL_POWER = Rule("call.power", "the partition is activated", _ORDER, Status.H_STATE)
CALL_BUSY = Rule(
    "call.busy",
    "after a busy answer, the caller makes the call again",
    "spec/faults.md#busy-answers",
    Status.H_BUSY,
)

# Arguments

# Arguments are checked in register order, r4 first. These checks come before that of the password: they read
# no object, so they show nothing of a store.
ARGUMENT_BITS = Rule("argument.bits", "a number has no more bits than its argument", _ORDER, _ARGUMENT)
ARGUMENT_ZERO = Rule("argument.zero", "a reserved argument is 0", _ORDER, _ARGUMENT)
CONSUMER_KNOWN = Rule("consumer.known", "the consumer is 1, 2 or 3", _PASSWORDS, _ARGUMENT)
# Any fault of the authorization block is refused with the status of r4 (C-F): no other argument is about the
# block.
AUTHORIZATION_READABLE = Rule(
    "authorization.readable", "the authorization block is in one readable segment", _BLOCK, _ARGUMENT
)
AUTHORIZATION_LAYOUT = Rule(
    "authorization.layout", "an authorization block has version 1 and reserved bytes 0", _BLOCK, _ARGUMENT
)
AUTHORIZATION_PASSWORD = Rule(
    "authorization.password",
    "the password is no longer than the maximum of the firmware level",
    _BLOCK,
    _ARGUMENT,
)
BUFFER_READABLE = Rule("buffer.readable", "an input buffer is in one readable segment", _ORDER, _ARGUMENT)
BUFFER_WRITABLE = Rule("buffer.writable", "an output buffer is in one writable segment", _ORDER, _ARGUMENT)
# An operator can relax this rule, and no other rule of arguments (spec/hcalls/index.md#strict-memory).
BUFFER_PLACE = Rule(
    "buffer.place",
    "with strict memory, a buffer has its alignment and stays within its page",
    _STRICT,
    _ARGUMENT,
)
CONFIG_LENGTH = Rule(
    "config.length",
    f"the buffer of GET_CONFIG has at least {CONFIG_MIN_SIZE} bytes",
    "spec/hcalls/get_config.md#checks",
    _ARGUMENT,
)
PASSWORD_LENGTH = Rule(
    "password.length",
    "a password has 1 byte to the maximum of the firmware level",
    "spec/hcalls/set_password.md#checks",
    _ARGUMENT,
)
PASSWORD_GENERATED = Rule(
    "password.generated",
    f"a generated password has {MIN_GENERATED_PASSWORD} bytes to the maximum of the firmware level",
    "spec/hcalls/gen_password.md#checks",
    _ARGUMENT,
)
LABEL_LENGTH = Rule(
    "label.length", "a label has 1 byte to the maximum of the firmware level", _LABEL, _ARGUMENT
)
OBJECT_LENGTH = Rule(
    "object.length",
    "an object has 1 byte to the largest size of the partition",
    "spec/hcalls/write_object.md#checks",
    _ARGUMENT,
)
# The token is checked before the password. So it is random: a caller without the password can't guess it.
LIST_TOKEN = Rule(
    "list.token",
    "the token is 0, or the one that the last answer to this consumer returned",
    "spec/hcalls/get_objectlabels.md#checks",
    _ARGUMENT,
)
LIST_ROOM = Rule(
    "list.room",
    "a buffer for labels has room for one label",
    "spec/hcalls/get_objectlabels.md#checks",
    _ARGUMENT,
)
CONTINUE_TOKEN = Rule(
    "continue.token",
    "the token is 0, or the one of a busy answer to the same h-call",
    "spec/faults.md#busy-answers",
    _ARGUMENT,
)
KEY_LENGTH = Rule(
    "key.length",
    f"a wrapping key has {WRAPPING_KEY_SIZE} bytes",
    "spec/hcalls/gen_key.md#checks",
    _ARGUMENT,
)
# If the guest gave an address, it would expect a copy of the key.
KEY_ADDRESS = Rule(
    "key.address",
    "the address is 0 for a wrapping key, which is never written to memory",
    "spec/hcalls/gen_key.md#checks",
    _ARGUMENT,
)
WRAP_BITS = Rule("wrap.bits", "wrap flags use only bits 1 to 3 and the algorithm field", _FLAGS, _ARGUMENT)
WRAP_ALGORITHM = Rule(
    "wrap.algorithm", f"the wrapping algorithm is {AES_256_GCM}, AES-256-GCM", _FLAGS, _ARGUMENT
)
WRAP_PWSET = Rule("wrap.pwset", "wrap flags have PWSET", _FLAGS, _ARGUMENT)
WRAP_MODES = Rule("wrap.modes", "wrap flags have audit or enforce, not both", _FLAGS, _ARGUMENT)
WRAP_LENGTH = Rule("wrap.length", f"the input of WRAP has 1 to {MAX_WRAP_INPUT} bytes", _WRAP, _ARGUMENT)
WRAP_ROOM = Rule(
    "wrap.room",
    f"the output of WRAP has room for the input and {WRAP_OVERHEAD} bytes more",
    _WRAP,
    _ARGUMENT,
)
UNWRAP_LENGTH = Rule(
    "unwrap.length",
    f"a wrapped object has {WRAP_OVERHEAD + 1} to {WRAP_OVERHEAD + MAX_WRAP_INPUT} bytes",
    _UNWRAP,
    _ARGUMENT,
)
UNWRAP_ROOM = Rule(
    "unwrap.room",
    f"the output of UNWRAP has room for the input without {WRAP_OVERHEAD} bytes",
    _UNWRAP,
    _ARGUMENT,
)
UPDATE_LENGTH = Rule(
    "update.length",
    "a signed update has 1 byte to the maximum object size that GET_CONFIG returns",
    "spec/hcalls/signed_update.md#checks",
    _ARGUMENT,
)
UPDATE_POLICY = Rule(
    "update.policy",
    "a signed update keeps the policy word of the object",
    "spec/hcalls/signed_update.md#checks",
    _ARGUMENT,
)

# Policy words of new objects

POLICY_STATUS_BITS = Rule("policy.status-bits", "only the hypervisor sets status bits", _WORDS, _ARGUMENT)
POLICY_SUPPORTED = Rule(
    "policy.supported", "a policy word has only bits that the firmware level supports", _WORDS, _ARGUMENT
)
POLICY_PLAIN = Rule(
    "policy.plain",
    "WRITE_OBJECT makes neither signed-update objects nor wrapping keys",
    _WORDS,
    _ARGUMENT,
)
POLICY_KEY = Rule("policy.key", "GEN_KEY does not make signed-update objects", _WORDS, _ARGUMENT)
POLICY_SIGNED = Rule(
    "policy.signed", "a signed-update object has SIGNEDUPDATE and not WRAPPINGKEY", _WORDS, _ARGUMENT
)
POLICY_WORLD_KEY = Rule("policy.world-key", "a wrapping key is not world-readable", _WORDS, _ARGUMENT)

# Passwords, objects, policies, space

PASSWORD_ONCE = Rule(
    "password.once", "a consumer's password is set once in an IPL", _PASSWORDS, Status.H_IN_USE
)
# A call with a password is also refused while no password is set (C-5): its caller is wrong about the state
# of the keystore.
PASSWORD_FITS = Rule(
    "password.fits",
    "a call presents the consumer's password once it is set, and no password before",
    _PASSWORDS,
    _AUTHORITY,
)
# The server checks the label after the password: a caller without the password must not learn which labels
# exist.
OBJECT_EXISTS = Rule(
    "object.exists", "the label names an object of this consumer", _ORDER, Status.H_NOT_FOUND
)
# Public fact: a WRITE to a label that exists returns H_RESOURCE. Linux removes the object first.
OBJECT_NEW = Rule(
    "object.new",
    "a write never overwrites; remove the object first",
    "spec/hcalls/write_object.md#checks",
    Status.H_RESOURCE,
)
OBJECT_FITS_BUFFER = Rule(
    "object.fits-buffer",
    "the object fits into the buffer",
    "spec/hcalls/read_object.md#checks",
    Status.H_TOO_BIG,
)
SPACE = Rule(
    "space",
    "label, data and overhead of all objects stay within the store",
    "spec/policies.md#space",
    Status.H_NO_MEM,
)
# The verdicts are checked in the order of spec/policies.md#the-order.
VERDICT_PWSET = Rule(
    "verdict.pwset",
    "a PWSET object is used only after its owner's password is set",
    _VERDICTS,
    _AUTHORITY,
)
VERDICT_SECURE_BOOT = Rule(
    "verdict.secure-boot",
    "the partition has the secure-boot mode that the object's policy asks for",
    _VERDICTS,
    _AUTHORITY,
)
VERDICT_WRAPPING_KEY = Rule("verdict.wrapping-key", "a wrapping key is never read", _VERDICTS, _AUTHORITY)
VERDICT_REVOKED = Rule(
    "verdict.revoked", "a revoked object is not read or used until it is unrevoked", _VERDICTS, _AUTHORITY
)
VERDICT_IMMUTABLE = Rule(
    "verdict.immutable", "an immutable object is never changed or removed", _VERDICTS, _AUTHORITY
)
VERDICT_PROVIDED = Rule(
    "verdict.provided",
    "a guest does not remove objects that the hypervisor provides",
    _VERDICTS,
    _AUTHORITY,
)
VERDICT_REVOCABLE = Rule(
    "verdict.revocable", "only a wrapping key is revoked or unrevoked", _VERDICTS, _AUTHORITY
)
WRAP_KEY = Rule(
    "wrap.key", "WRAP takes a key that GEN_KEY has made for wrapping", _WRAP, Status.H_INVALID_KEY
)
UNWRAP_KEY = Rule(
    "unwrap.key",
    "the key that wrapped the object is in this consumer's keystore",
    _UNWRAP,
    Status.H_NOT_FOUND,
)
WRAPPED_FORMAT = Rule(
    "wrapped.format",
    "a wrapped object has its magic, format level 1 and algorithm 1",
    "spec/wrapped.md#order-of-checks",
    Status.H_UNSUPPORTED,
)
WRAPPED_INTACT = Rule(
    "wrapped.intact",
    "a wrapped object is bit for bit as WRAP made it",
    "spec/wrapped.md#order-of-checks",
    Status.H_BAD_DATA,
)

# Rules that a client shows for a status alone

# A status stands for several rules of the server. These rows cover all of them, so that a client claims
# no more than it knows.
ARGUMENT_RIGHT = Rule("argument.right", "an argument is as the page of its h-call says", _ORDER, _ARGUMENT)
FUNCTION = Rule(
    "function", "the keystore is on, and the firmware level has the h-call", _ORDER, Status.H_FUNCTION
)
FUNCTION_UPDATE = Rule(
    "function.update",
    "the keystore is on, the firmware level has SIGNED_UPDATE, and keystore_signed_updates is 1",
    _ORDER,
    Status.H_FUNCTION,
)
AUTHORITY = Rule(
    "authority", "the consumer's password fits, and the policy of the object is met", _ORDER, _AUTHORITY
)
AUTHORITY_UPDATE = Rule(
    "authority.update",
    "the password fits, the policy is met, and a trusted key signed a later update",
    "spec/hcalls/signed_update.md#rules",
    _AUTHORITY,
)
SPACE_UPDATE = Rule(
    "space.update",
    "the updated variable fits into the store, and into the largest object that READ can deliver",
    "spec/policies.md#space",
    Status.H_NO_MEM,
)
STATE_MODIFIABLE = Rule(
    "state.modifiable",
    "the partition's state permits modifications",
    _ORDER,
    Status.H_R_STATE,
)
CALL_FINISHED = Rule("call.finished", "the hypervisor finishes each call", _ORDER, Status.H_ABORTED)
LIST_CONTINUED = Rule(
    "list.continued",
    "a list is continued with the token of its last part",
    "spec/hcalls/get_objectlabels.md#results",
    Status.H_CONTINUE,
)
STATUS_KNOWN = Rule(
    "status.known", "the status of an answer is on the page of its h-call", _ORDER, Fault.PEER
)
