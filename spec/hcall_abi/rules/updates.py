"""Rules of a signed update, in the order of the checks (R-70).

The rules are those of the public library that PowerVM builds in (open-power's libstb-secvar).  The status
that reports each rule is not public (choice C-18 of spec/choices.md).
"""

from __future__ import annotations

from hcall_abi.rules.rule import Positional, Rule
from hcall_abi.statuses import Status

MAX_SIGNERS = 16
"""Most signers of one update; more are refused, so that judging one takes bounded time."""

# While signatures are verified, the calls of other partitions wait. So the number of verifications is bounded
# (C-Z).
MAX_TRIALS = 16
"""Most pairs of a trusted key and a signature that are tried for one update: 1 to 2.4 ms with RSA-4096."""

EXPONENT_BITS = 32
"""Longest public exponent of a key that counts, in bits: a verification takes time by its length."""

DOUBT_ADVICE = (
    "sign without attributes, by issuer and serial number: openssl cms -sign -noattr, without -keyid"
)
"""The way to a signature that this emulator and real firmware accept, for those who meet a doubt."""

_KEYS = f"keys of RSA-2048, 3072 or 4096 with exponents of {EXPONENT_BITS} bits or less"
_LABEL, _FLAGS, _PAYLOAD = "label", "flags", "data"
"""Names of the arguments that the positional rules are about."""
_AUTHORITY = Status.H_AUTHORITY


def _rule(name: str, broken: Status | str, sentence: str) -> Rule:
    """Return the row of a rule.

    If `broken` is the name of an argument, the rule is about this argument; otherwise `broken` is the
    status.
    """
    # The argument is given by its name. Its register follows from the row of the call.
    page = "spec/hcalls/signed_update.md#rules"
    if isinstance(broken, str):
        return Rule(f"update.{name}", sentence, page, Positional.ARGUMENT, argument=broken)
    return Rule(f"update.{name}", sentence, page, broken)


UPDATE_LABEL = _rule(
    "label", _LABEL, "the label is the header of an operating system, with prefix 0, and a name"
)
UPDATE_NAME_WIDE = _rule("name-wide", _LABEL, "the name is UTF-16: whole 16-bit characters, at least one")
UPDATE_NAME_NUL = _rule("name-nul", _LABEL, "no character of the name is NUL")
UPDATE_FLAGS = _rule("flags", _FLAGS, "flags are 0, or 1 for append")
UPDATE_PK_APPEND = _rule("pk-append", _FLAGS, "PK is replaced, never appended to")
UPDATE_HEADER = _rule("header", _PAYLOAD, "the payload begins with a whole header of 40 bytes")
UPDATE_TIME_RESERVED = _rule("time-reserved", _PAYLOAD, "the reserved fields of the time are 0")
UPDATE_PART_LENGTH = _rule(
    "part-length", _PAYLOAD, "the certificate part is longer than its own header of 24 bytes"
)
UPDATE_PART_WITHIN = _rule("part-within", _PAYLOAD, "the certificate part ends within the payload")
UPDATE_PART_REVISION = _rule("part-revision", _PAYLOAD, "the certificate part has revision 0x0200")
UPDATE_PART_TYPE = _rule("part-type", _PAYLOAD, "the certificate part is of type 0x0EF1 (GUID)")
UPDATE_PART_GUID = _rule("part-guid", _PAYLOAD, "the certificate part has the GUID of PKCS#7 SignedData")
UPDATE_PKCS7_DER = _rule(
    "pkcs7-der", _PAYLOAD, "the certificate part holds one PKCS#7 SignedData in DER and nothing more"
)
UPDATE_PKCS7_CONTENT = _rule(
    "pkcs7-content", _PAYLOAD, "the SignedData holds no content, or exactly the signed bytes"
)
UPDATE_PKCS7_SIGNERS = _rule("pkcs7-signers", _PAYLOAD, f"the update has 1 to {MAX_SIGNERS} signers")
UPDATE_PKCS7_DIGEST = _rule("pkcs7-digest", _PAYLOAD, "every digest is SHA-256")
UPDATE_PKCS7_SIGNATURE = _rule("pkcs7-signature", _PAYLOAD, "every signature is RSA with PKCS#1 v1.5 padding")
UPDATE_PKCS7_ATTRIBUTES = _rule(
    "pkcs7-attributes",
    _PAYLOAD,
    "signed attributes hold the content type of the SignedData and one message digest",
)
# This check is off by default. If a file passes the check, PowerVM's public library accepts the file too
# (C-T).
UPDATE_STRICT = _rule(
    "strict",
    _PAYLOAD,
    "with strict updates, signers have no signed attributes and are named by issuer and serial number",
)
# The status is H_AUTHORITY and not H_P6, because the stored keys are wrong, and not the payload.
UPDATE_TRUSTED_KEYS = _rule("trusted-keys", _AUTHORITY, f"PK and KEK hold X.509 v3 certificates with {_KEYS}")
UPDATE_TRIALS = _rule(
    "trials",
    _AUTHORITY,
    f"one of the first {MAX_TRIALS} pairs of a trusted key and a signature of its length fits",
)
UPDATE_BY_PK = _rule("by-pk", _AUTHORITY, "PK and KEK are updated by the holder of PK")
UPDATE_BY_PK_OR_KEK = _rule(
    "by-pk-or-kek", _AUTHORITY, "a variable is updated by the holder of PK or of a key in KEK"
)
# Without this rule, an old update with a good signature could be replayed.
UPDATE_TIME_LATER = _rule("time-later", _AUTHORITY, "the time is later than that of the variable")
UPDATE_APPEND_LISTS = _rule(
    "append-lists", _PAYLOAD, "appended contents are whole signature lists, at least one"
)
UPDATE_STORED_LISTS = _rule("stored-lists", _PAYLOAD, "an append extends whole signature lists")
# The payload that orders the wipe is a public sentence, so anybody can send it. The hypervisor obeys it only
# after the operator has armed the latch (C-34, C-X).
UPDATE_WIPE_ARMED = _rule(
    "wipe-armed",
    _AUTHORITY,
    "everything is deleted only while an update of PK without verification is armed",
)
UPDATE_PK_CONTENTS = _rule(
    "pk-contents", _PAYLOAD, "PK is one list of one X.509 v3 certificate with a key that KEK may have"
)
UPDATE_KEK_CONTENTS = _rule("kek-contents", _PAYLOAD, f"KEK is lists of X.509 v3 certificates with {_KEYS}")
UPDATE_CA_CONTENTS = _rule(
    "ca-contents",
    _PAYLOAD,
    f"trustedcadb takes lists of X.509 v3 certificates of authorities (CA) with {_KEYS}",
)
UPDATE_VARIABLE_FITS = _rule(
    "variable-fits",
    Status.H_NO_MEM,
    "the variable with its header fits into the largest object that READ can deliver",
)
