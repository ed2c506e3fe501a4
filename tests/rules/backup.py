"""Rules about the trusted system key, console copies and wrapped copies of the root key.

Each break uses right bytes with one mistake.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hcall_abi.rules.rule import Rule
from hcall_server.platform.trusted_key import TrustedSystemKey
from hcall_server.sealing import SYSTEM_OWNER, SealedKind
from hcall_server.sealing.copies import open_copy, seal_copy
from hcall_server.sealing.restoring import restored
from hcall_server.sealing.trusted_key import open_trusted_key
from hcall_server.sealing.wrapped_key import WrapperKind, decode_wrapped, encode_wrapped, unpack_identity
from tests.rules.breaking import Break, Breaks, breaks, refused
from tests.sealing import second_copies
from tests.sealing.samples import RECORD, SEALER

KEY = TrustedSystemKey(bytes(range(32)))
Change = Callable[[bytes], bytes]


def _copy() -> bytes:
    return seal_copy(KEY, RECORD, system_id=bytes(16), firmware="FW1110", time=0, entropy=bytes)


def copied(change: Change, key: TrustedSystemKey = KEY) -> Break:
    """Return a function that breaks a rule: the bytes of a copy are changed before a key opens it."""
    return lambda _: refused(open_copy, key, change(_copy()))


def put(at: int, data: bytes) -> Change:
    """Return a function that writes `data` over bytes, from the offset `at` on."""
    return lambda old: old[:at] + data + old[at + len(data) :]


def _of_a_faulty_release(_: Path) -> Rule:
    ids = {"system_id": bytes(16).hex(), "uuid": RECORD.profile.uuid.hex}
    facts = {**ids, "generation": 1, "time": 0, "kbytes": 64, "firmware": ""}
    return refused(open_copy, KEY, second_copies.copy(KEY.secret, facts, bytes(32), b"no record"))


def _unreadable_key(_: Path) -> Rule:
    blob = SEALER.seal(SealedKind.TRUSTED_KEY, SYSTEM_OWNER, 0, b"\0\1" + bytes(40))
    return refused(open_trusted_key, SEALER, blob)


BREAKS: Breaks = {
    "trusted-key.file": breaks(TrustedSystemKey.of_file, bytes(31)),
    "trusted-key.layout": _unreadable_key,
    "copy.header": copied(put(0, b"SPKS")),
    "copy.level": copied(put(4, b"\3")),
    "copy.length": copied(lambda blob: blob[:-1]),
    "copy.key": copied(bytes, TrustedSystemKey(bytes(32))),
    "copy.authentic": copied(lambda blob: blob[:-1] + bytes([blob[-1] ^ 1])),
    "copy.contents": _of_a_faulty_release,
    "copy.counters": breaks(restored, RECORD, 2**64 - 1, 0),
    "root-key.record": breaks(decode_wrapped, encode_wrapped(WrapperKind.EMBEDDED, b"blob")[:-1]),
    "root-key.identity": breaks(unpack_identity, bytes(47)),
}
