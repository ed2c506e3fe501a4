"""The decision about a signed update: the new variable, or the rule that refuses it (R-70).

`decide` is pure: it takes the payload and the stored variables, and returns the change to make.
Its rules are `hcall_abi.rules.updates`, checked in this order; the first broken rule is returned.

1. Payload.  The header, its fixed fields and the length of its certificate part must be right.
2. Authority.  A key in PK may sign an update of every variable.  A key in KEK may sign an update of every
   variable except PK and KEK.  While the latch is armed, an update of PK is not verified, and its PKCS#7 is
   not read.
3. Time.  The update must be later than the stored variable.  This rule does not apply to the first update of
   a variable, to an append, and to an update of PK that is not verified.
4. Contents.  PK and KEK need usable certificates.  trustedcadb accepts only certificates of authorities.
   "Delete everything" needs the armed latch.  An append to a signature database leaves out duplicates.  An
   append to another variable adds the lists at the end.
5. Result.  If an update has no contents, and PK signed it, the variable is deleted.  If KEK signed it, the
   variable becomes empty.  After an append the variable has the later of both times.  The variable must fit
   into an object.

Cryptography is loaded at the first update that has to be verified.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from hcall_abi.efi import (
    LIST_HEADER_SIZE,
    OWNER_SIZE,
    EfiTime,
    StoredVariable,
    UpdatePayload,
    build_lists,
    build_stored,
    parse_lists,
    parse_stored,
    parse_update,
)
from hcall_abi.errors import RuleBroken
from hcall_abi.rules import updates as rules
from hcall_abi.rules.rule import Rule
from hcall_abi.variables import (
    KEK,
    PK,
    TRUSTED_CA,
    VENDOR_SECURITY,
    WIPE_SENTENCE,
    signed_bytes,
    vendor_of,
)
from hcall_server.secvar.merge import merge

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    from hcall_server.secvar.pkcs7 import Verify

_BEFORE_SENTENCE = LIST_HEADER_SIZE + OWNER_SIZE
"""Bytes of a signature list's header and an owner, before the sentence; their values are ignored."""


class UpdateRequest(NamedTuple):
    """An update, with the facts that decide about it.

    `name` is in UTF-16.  `stored`, `platform_key` (PK) and `exchange_keys` (KEK) are variables as they are
    stored, None if there is none.  `unverified`: the latch permits one update of PK without verification;
    this concerns no other variable.  `largest` is the largest size of the stored variable in bytes.
    `strict`: refuse signatures that real firmware may refuse.
    """

    name: bytes
    payload: bytes
    append: bool
    stored: bytes | None
    platform_key: bytes | None
    exchange_keys: bytes | None
    unverified: bool
    largest: int
    strict: bool = False

    def __repr__(self) -> str:
        name = self.name.decode("utf-16-le", "replace")
        return f"UpdateRequest({name!r}, {len(self.payload)} bytes, append={self.append})"


class Replace(NamedTuple):
    """Store the variable with this data."""

    data: bytes

    def __repr__(self) -> str:
        return f"Replace({len(self.data)} bytes)"


class Delete(NamedTuple):
    """Remove the variable, if it exists."""


class DeleteEverything(NamedTuple):
    """Remove all variables: keys are static again."""


class Refused(NamedTuple):
    """Change nothing: the update breaks this rule; `message` says how."""

    rule: Rule
    message: str


Decision = Replace | Delete | DeleteEverything | Refused


def doubts_of(payload: bytes) -> tuple[str, ...]:
    """Return the reasons why real firmware may refuse an update that this engine accepts.

    They depend on the form of the signatures alone.  Returns none for a payload that cannot be read.
    """
    from hcall_server.secvar import pkcs7

    try:
        return pkcs7.doubts_of(parse_update(payload).pkcs7)
    except RuleBroken:
        return ()


class Authority(Enum):
    """The variable whose key signed an update."""

    PLATFORM_KEY = "PK"
    EXCHANGE_KEY = "KEK"


def decide(request: UpdateRequest, verify: Verify | None = None) -> Decision:
    """Decide about an update whose label and flags have passed (`hcall_server.secvar.names`).

    `verify` replaces RSA (`hcall_server.secvar.pkcs7.verifies`), so that a test can count its calls.
    """
    try:
        return _decide(request, verify)
    except RuleBroken as error:
        return Refused(error.rule, error.message)


def _decide(request: UpdateRequest, verify: Verify | None) -> Decision:
    update = parse_update(request.payload)
    unverified = request.unverified and request.name == PK
    authority = Authority.PLATFORM_KEY if unverified else _authority(request, update, verify)
    stored = parse_stored(request.stored) if request.stored is not None else None
    # The time prevents a replay of old signed bytes.  As in the public library, the time of an append is
    # not compared (spec/secure-boot-variables.md#replay).
    if stored and not request.append and not unverified and update.time <= stored.time:
        raise RuleBroken(rules.UPDATE_TIME_LATER, f"{update.time} is not after {stored.time}")
    if request.append:
        return _pack(request, _appended(request, update, stored), update.contents)
    if not update.contents:
        empty = StoredVariable(update.time, b"")
        return Delete() if authority is Authority.PLATFORM_KEY else _pack(request, empty, b"")
    if request.name == PK and update.contents[_BEFORE_SENTENCE:] == WIPE_SENTENCE:
        return _everything(armed=unverified)
    return _pack(request, StoredVariable(update.time, update.contents), update.contents)


def _everything(*, armed: bool) -> DeleteEverything:
    if not armed:
        raise RuleBroken(rules.UPDATE_WIPE_ARMED, "an update without verification is not armed")
    return DeleteEverything()


# Authority


def _authority(request: UpdateRequest, update: UpdatePayload, verify: Verify | None) -> Authority:
    """Return the authority of the update; RuleBroken if no permitted key signed it."""
    from hcall_server.secvar.pkcs7 import Trials, read_signatures, verifies

    message = signed_bytes(request.name, update.time, update.contents, append=request.append)
    signatures = read_signatures(update.pkcs7, message, strict=request.strict)
    trials = Trials(signatures, hashlib.sha256(message).digest(), verify or verifies)
    for authority, key in _trusted(request):
        if trials.made_by(key):
            return authority
    rule = rules.UPDATE_BY_PK if request.name in (PK, KEK) else rules.UPDATE_BY_PK_OR_KEK
    raise RuleBroken(rule, "no trusted key made a signature over this update")


def _trusted(request: UpdateRequest) -> Iterator[tuple[Authority, RSAPublicKey]]:
    """Yield the keys that may sign an update, PK's first.  An unusable one raises RuleBroken."""
    # This is a generator, so certificates after the fitting one are never parsed.
    for key in _keys(request.platform_key):
        yield Authority.PLATFORM_KEY, key
    # A holder of KEK must not make itself PK, and must not put further keys into KEK.
    if request.name not in (PK, KEK):
        for key in _keys(request.exchange_keys):
            yield Authority.EXCHANGE_KEY, key


def _keys(variable: bytes | None) -> Iterator[RSAPublicKey]:
    from hcall_server.secvar.certificates import certificates, fault_of, rsa_key

    if variable is None:
        return
    stored = parse_stored(variable)
    if stored is None:
        raise RuleBroken(rules.UPDATE_TRUSTED_KEYS, "PK or KEK is not stored as a variable")
    for certificate in certificates(parse_lists(stored.contents, rules.UPDATE_TRUSTED_KEYS)):
        key = rsa_key(certificate)
        if key is None:
            found = fault_of(certificate)
            raise RuleBroken(rules.UPDATE_TRUSTED_KEYS, f"a certificate in PK or KEK cannot be used: {found}")
        yield key


# Contents


def _appended(request: UpdateRequest, update: UpdatePayload, stored: StoredVariable | None) -> StoredVariable:
    """Return the variable with the update's lists added, and with the later of both times."""
    if not update.contents:
        raise RuleBroken(rules.UPDATE_APPEND_LISTS, "an append without contents")
    if request.stored is not None and stored is None:
        raise RuleBroken(rules.UPDATE_STORED_LISTS, "the stored object is not a variable")
    # A first append is a replacement, so it may have any contents.  A merge needs whole lists on both
    # sides.
    before = stored or StoredVariable(EfiTime(0, 0, 0), b"")
    contents = before.contents + update.contents
    if before.contents and vendor_of(request.name) == VENDOR_SECURITY:
        added = parse_lists(update.contents, rules.UPDATE_APPEND_LISTS)
        contents = build_lists(merge(parse_lists(before.contents, rules.UPDATE_STORED_LISTS), added))
    return StoredVariable(max(before.time, update.time), contents)


def _pack(request: UpdateRequest, variable: StoredVariable, new: bytes) -> Replace:
    """Return the variable to store.  RuleBroken if its contents are not allowed, or do not fit.

    `new` are the contents of the update.
    """
    # For trustedcadb only the new certificates are checked.  Older releases accepted any contents, and an
    # append to such a variable must still be possible.
    if request.name == PK:
        _check_keys(variable.contents, rules.UPDATE_PK_CONTENTS, exactly_one=True)
    elif request.name == KEK:
        _check_keys(variable.contents, rules.UPDATE_KEK_CONTENTS, exactly_one=False)
    elif request.name == TRUSTED_CA:
        _check_authorities(new)
    data = build_stored(variable)
    # READ must be able to deliver the whole variable.  So the bound is `largest`, not the limit of WRITE.
    if len(data) > request.largest:
        raise RuleBroken(rules.UPDATE_VARIABLE_FITS, f"{len(data)} bytes, {request.largest} are the most")
    return Replace(data)


def _check_keys(contents: bytes, rule: Rule, *, exactly_one: bool) -> None:
    from hcall_server.secvar.certificates import certificates, fault_of

    lists = parse_lists(contents, rule)
    found = list(certificates(lists))
    if exactly_one and not len(lists) == len(found) == 1:
        raise RuleBroken(rule, f"{len(found)} signatures in {len(lists)} lists")
    for reason in map(fault_of, found):
        if reason:
            raise RuleBroken(rule, reason)


def _check_authorities(contents: bytes) -> None:
    from hcall_server.secvar.certificates import certificates, fault_of, is_authority

    rule = rules.UPDATE_CA_CONTENTS
    for each in certificates(parse_lists(contents, rule)):
        if not is_authority(each):
            raise RuleBroken(rule, fault_of(each) or "a certificate is not one of an authority (CA:TRUE)")
