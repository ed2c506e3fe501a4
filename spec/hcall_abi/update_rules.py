"""Every rule of a signed update, with the status that answers a broken one (R-70).

One table for all: the parsers and the decision name the rule that an update breaks, the page
spec/hcalls/signed_update.md prints the table, and a test breaks each row alone.  The rules are
those of the public library that PowerVM builds in (open-power's libstb-secvar); which status
reports which rule is not public (spec/choices.md#choices, 18).
"""

from __future__ import annotations

from enum import Enum

from hcall_abi.errors import Fault, SwpksError
from hcall_abi.statuses import Status

MAX_SIGNERS = 16
"""Most signers of one update; more are refused, so that judging one takes bounded time."""

MAX_TRIALS = 128
"""Most pairs of a trusted key and a signature that are tried for one update, for the same reason."""

EXPONENT_BITS = 32
"""Longest public exponent of a key that counts, in bits: a verification takes time by its length."""

_KEYS = f"RSA-2048 or RSA-4096 keys of exponents of {EXPONENT_BITS} bits or less"

_LABEL = Status.H_P2
_FLAGS = Status.H_P5
_PAYLOAD = Status.H_P6
_AUTHORITY = Status.H_AUTHORITY
_SPACE = Status.H_NO_MEM


class UpdateRule(Enum):
    """A rule of a signed update: the status of breaking it, and the rule in words.

    In the order of the checks.
    """

    LABEL_HEADER = (
        _LABEL,
        "the label is operating systems' header, with prefix 0, and a name",
    )
    NAME_WIDE = _LABEL, "the name is UTF-16: whole 16-bit characters, at least one"
    NAME_NUL = _LABEL, "no character of the name is NUL"
    FLAGS_KNOWN = _FLAGS, "flags are 0, or 1 for append"
    PK_APPEND = _FLAGS, "PK is replaced, never appended to"
    HEADER_WHOLE = _PAYLOAD, "the payload begins with a whole header of 40 bytes"
    TIME_RESERVED = _PAYLOAD, "the reserved fields of the time are 0"
    PART_LENGTH = _PAYLOAD, "the certificate part is longer than its own header of 24 bytes"
    PART_WITHIN = _PAYLOAD, "the certificate part ends within the payload"
    PART_REVISION = _PAYLOAD, "the certificate part has revision 0x0200"
    PART_TYPE = _PAYLOAD, "the certificate part is of type 0x0EF1 (GUID)"
    PART_GUID = _PAYLOAD, "the certificate part has the GUID of PKCS#7 SignedData"
    PKCS7_DER = _PAYLOAD, "the certificate part holds one PKCS#7 SignedData in DER and nothing more"
    PKCS7_DETACHED = _PAYLOAD, "the signature is detached: SignedData holds no content"
    PKCS7_SIGNERS = _PAYLOAD, f"the update has 1 to {MAX_SIGNERS} signers"
    PKCS7_DIGEST = _PAYLOAD, "every digest is SHA-256"
    PKCS7_SIGNATURE = _PAYLOAD, "every signature is RSA with PKCS#1 v1.5 padding"
    PKCS7_ATTRIBUTES = (
        _PAYLOAD,
        "signed attributes hold the content type of the SignedData and one message digest",
    )
    TRUSTED_KEYS = _AUTHORITY, f"PK and KEK hold X.509 v3 certificates with {_KEYS}"
    SIGNATURE_TRIALS = (
        _AUTHORITY,
        f"one of the first {MAX_TRIALS} pairs of a trusted key and a signature of its length fits",
    )
    SIGNED_BY_PK = _AUTHORITY, "PK and KEK are updated by the holder of PK"
    SIGNED_BY_PK_OR_KEK = _AUTHORITY, "a variable is updated by the holder of PK or of a key in KEK"
    TIME_LATER = _AUTHORITY, "the time is later than that of the variable"
    APPEND_LISTS = _PAYLOAD, "what is appended to contents is whole signature lists, at least one"
    STORED_LISTS = _PAYLOAD, "what is appended to is whole signature lists"
    WIPE_ARMED = _AUTHORITY, "everything is deleted only while an update of PK without verification is armed"
    PK_CONTENTS = _PAYLOAD, "PK is one list of one X.509 v3 certificate with a key as those of KEK"
    KEK_CONTENTS = _PAYLOAD, f"KEK is lists of X.509 v3 certificates with {_KEYS}"
    VARIABLE_FITS = _SPACE, "the variable with its header fits into the largest object that READ can deliver"

    @property
    def status(self) -> Status:
        """The status of an update that breaks this rule."""
        return self.value[0]

    @property
    def sentence(self) -> str:
        """The rule in words."""
        return self.value[1]


class RuleBroken(SwpksError):
    """An update breaks one of its rules; `broken` says which."""

    fault = Fault.GUEST

    def __init__(self, broken: UpdateRule, message: str) -> None:
        super().__init__(message, rule=broken.sentence, section="spec/hcalls/signed_update.md#rules")
        self.broken = broken
