"""Golden console copies and wrapped root keys: the package, a second implementation and openssl agree."""

from typing import Any
from uuid import UUID

import pytest

from hcall_server import sealing
from hcall_server.keystore.image import StoreImage
from hcall_server.platform.trusted_key import TrustedSystemKey
from hcall_server.sealing import Sealer, copies, wrapped_key
from hcall_server.sealing.wrapped_key import WrappedKey, WrapperKind
from tests.sealing import second_copies, second_records
from tests.sealing.test_golden import (
    GOLDEN,
    identity_of,
    in_bytes,
    no_entropy,
    object_in_words,
    openssl,
    openssl_hkdf,
    profile_in_words,
)

COPIES = sorted(name for name, vector in GOLDEN.items() if "copy_level" in vector)
WRAPPED = sorted(name for name, vector in GOLDEN.items() if "wrapped_level" in vector)


@pytest.fixture(params=COPIES)
def golden(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return a golden copy whose byte strings are bytes.

    `of` is the golden partition that the copy contains.
    """
    vector = GOLDEN[request.param]
    of: dict[str, Any] = GOLDEN[f"level-2/{vector['of']}"]
    return {**in_bytes({**vector, "of": None, "facts": None}), "of": of, "facts": vector["facts"]}


def test_there_are_golden_copies_and_wrapped_keys() -> None:
    """There is a golden copy of each layout, and a golden wrapped key for each kind of TPM."""
    assert {GOLDEN[name]["copy_level"] for name in COPIES} == {1, 2}
    assert {GOLDEN[name]["kind"] for name in WRAPPED} == set(WrapperKind)


def test_a_golden_copy_opens(golden: dict[str, Any]) -> None:
    """The clear facts of a golden copy are read without a key. With the key, the partition is as sealed."""
    header, (profile, image) = copies.open_copy(TrustedSystemKey(golden["trusted_key"]), golden["blob"])
    facts = header._asdict() | {"uuid": header.uuid.hex, "system_id": header.system_id.hex()}
    assert facts.pop("tsk_id") == golden["tsk_id"]
    assert facts == {"restores": 0} | golden["facts"]
    assert profile.restores == header.restores
    assert copies.read_copy(golden["blob"]) == header
    assert profile.image_generation == header.generation
    words = profile_in_words(profile) | {"access_key": profile.access_key.hex()}
    del words["uuid"], words["image_generation"]
    assert words == golden["of"]["profile"]
    assert objects_in(image) == golden["of"]["objects"]


def objects_in(image: StoreImage | None) -> list[dict[str, Any]] | None:
    return [object_in_words(each) for each in image.objects] if image else None


def test_a_copy_with_the_same_salt_has_the_golden_bytes(golden: dict[str, Any]) -> None:
    """With the same salt, today's package makes the golden bytes of each copy of level 2.

    It makes no copies of level 1.
    """
    of = in_bytes({name: golden["of"][name] for name in ("system_id", "root_key", "owner", "blob")})
    record = sealing.open_partition(Sealer(identity_of(of), no_entropy), UUID(bytes=of["owner"]), of["blob"])
    made = copies.seal_copy(
        TrustedSystemKey(golden["trusted_key"]),
        record,
        system_id=bytes.fromhex(golden["facts"]["system_id"]),
        firmware=golden["facts"]["firmware"],
        time=golden["facts"]["time"],
        entropy=lambda count: golden["salt"][:count],
    )
    assert (made == golden["blob"]) == (golden["copy_level"] == 2)


def test_the_second_implementation_opens_golden_copies(golden: dict[str, Any]) -> None:
    """Code without any part of the package opens each golden copy."""
    assert second_copies.id_of(golden["trusted_key"]) == golden["tsk_id"]
    facts, plaintext = second_copies.copy_of(golden["trusted_key"], golden["blob"])
    assert (facts, plaintext) == (golden["facts"], golden["plaintext"])
    assert second_records.partition_of(plaintext) == (golden["of"]["profile"], golden["of"]["objects"])


def test_openssl_derives_id_and_keys_and_deciphers(golden: dict[str, Any]) -> None:
    """`openssl mac` makes the id, `openssl kdf` key and nonce, `openssl enc` the plaintext."""
    key = golden["trusted_key"]
    mac = ["mac", "-digest", "SHA256", "-macopt", f"hexkey:{key.hex()}", "-binary", "-in", "-", "HMAC"]
    assert openssl(mac, b"swpks tsk id 1")[:8] == golden["tsk_id"]
    info = b"swpks console copy 1" + bytes.fromhex(golden["facts"]["uuid"])
    assert openssl_hkdf(key, info, 44, salt=golden["salt"]) == golden["key"] + golden["nonce"]
    counter = golden["nonce"] + (2).to_bytes(4, "big")
    cipher = ["enc", "-d", "-aes-256-ctr", "-K", golden["key"].hex(), "-iv", counter.hex()]
    begin = len(golden["blob"]) - len(golden["plaintext"]) - 16
    assert openssl(cipher, golden["blob"][begin:-16]) == golden["plaintext"]


@pytest.mark.parametrize("name", WRAPPED)
def test_a_golden_wrapped_key_is_read_and_made_again(name: str) -> None:
    """A golden wrapped key has its kind and blob. Its 48 bytes are system id and root key."""
    golden = in_bytes(GOLDEN[name])
    kind, blob = WrapperKind(golden["kind"]), golden["wrapped"]
    assert wrapped_key.decode_wrapped(golden["record"]) == WrappedKey(kind, blob)
    assert wrapped_key.encode_wrapped(kind, blob) == golden["record"]
    assert second_copies.wrapped_of(golden["record"]) == (kind, blob)
    identity = identity_of(in_bytes(GOLDEN["level-2/trusted-key"]))
    assert wrapped_key.unpack_identity(golden["inside"]) == identity
    assert wrapped_key.pack_identity(identity) == golden["inside"]
