"""The golden sealed records: what an old release left behind opens for ever, and means what it meant."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hcall_server import sealing
from hcall_server.keystore.image import StoredObject, StoreImage
from hcall_server.platform.identity import SystemIdentity
from hcall_server.platform.profile import PartitionProfile
from hcall_server.sealing import Sealer
from tests.debian.reporting import needed
from tests.sealing import second

FOLDER = Path(__file__).resolve().parents[2] / "spec" / "vectors" / "sealed"
GOLDEN: dict[str, dict[str, Any]] = {
    f"{path.parent.name}/{path.stem}": json.loads(path.read_text("utf-8"))
    for path in sorted(FOLDER.glob("level-*/*.json"))
}
SWITCHES = {
    "signed_updates": "keystore_signed_updates",
    "without_verification": "keystore_signed_updates_without_verification",
    "dynamic_keys": "linux_dynamic_key_secure_boot",
}
"""What the golden records call the switches; a profile of level 1 did not know them: all are off."""


@pytest.fixture(params=sorted(GOLDEN))
def golden(request: pytest.FixtureRequest) -> dict[str, Any]:
    vector = GOLDEN[request.param]
    return {name: _from_hex(name, value) for name, value in vector.items()}


def _from_hex(name: str, value: Any) -> Any:
    return bytes.fromhex(value) if isinstance(value, str) else value


def no_entropy(count: int) -> bytes:
    raise AssertionError("opening needs no entropy")


def sealer_of(golden: dict[str, Any]) -> Sealer:
    return Sealer(SystemIdentity(golden["system_id"], golden["root_key"]), no_entropy)


def test_every_level_that_was_ever_written_has_golden_records() -> None:
    """R-02: each envelope level up to today's is among the golden records, and each kind of level 1."""
    kinds = {(vector["envelope_level"], vector["kind"]) for vector in GOLDEN.values()}
    assert {(1, kind) for kind in sealing.SealedKind} <= kinds


def test_older_format_levels_load_for_ever(golden: dict[str, Any]) -> None:
    """R-02, R-21: the package opens a golden record and reads in it what was put there."""
    blob, partition = golden["blob"], golden["partition"]
    if "objects" in golden:
        assert sealing.open_image(sealer_of(golden), partition, blob) == image_of(golden)
    elif "profile" in golden:
        record = sealing.open_profile(sealer_of(golden), partition, blob)
        assert told_by(record) == dict.fromkeys(SWITCHES, False) | golden["profile"]
    else:
        assert sealing.open_system(sealer_of(golden), blob)._asdict() == golden["system"]


def told_by(profile: PartitionProfile) -> dict[str, object]:
    """A profile in the words of the golden records."""
    numbers = profile.attributes.numbers
    fields = profile._asdict() | {"kbytes": numbers["keystore_kbytes"], "secure_boot": numbers["secure_boot"]}
    del fields["attributes"]
    return fields | {name: bool(numbers[attribute]) for name, attribute in SWITCHES.items()}


def image_of(golden: dict[str, Any]) -> StoreImage:
    objects = (
        StoredObject(o["consumer"], bytes.fromhex(o["label"]), o["policy"], bytes.fromhex(o["data"]))
        for o in golden["objects"]
    )
    return StoreImage(golden["generation"], tuple(objects))


def test_sealing_with_the_same_salt_gives_the_golden_bytes(golden: dict[str, Any]) -> None:
    """R-02: today's writer of level 1 writes, byte for byte, what the second implementation wrote."""
    identity = SystemIdentity(golden["system_id"], golden["root_key"])
    sealer = Sealer(identity, lambda count: golden["salt"][:count])
    blob = sealer.seal(golden["kind"], golden["partition"], golden["generation"], golden["plaintext"])
    assert blob == golden["blob"]


def test_the_second_implementation_opens_golden_records(golden: dict[str, Any]) -> None:
    """R-02: code that shares nothing with the package opens the record from the documented bytes alone."""
    identity = golden["system_id"], golden["root_key"]
    opened = second.open_blob(identity, golden["kind"], golden["partition"], golden["blob"])
    assert opened == (golden["generation"], golden["plaintext"])
    if "objects" in golden:
        assert second.objects_of(golden["plaintext"]) == golden["objects"]


def test_openssl_derives_the_same_keys(golden: dict[str, Any]) -> None:
    """R-02: `openssl kdf HKDF` makes the partition key from the root key, and key and nonce from that."""
    info = b"swpks partition key 1" + golden["partition"].to_bytes(2, "big")
    partition_key = openssl_hkdf(golden["root_key"], golden["system_id"], info, 32)
    assert partition_key == golden["partition_key"]
    material = openssl_hkdf(partition_key, golden["salt"], b"swpks sealing 1", 44)
    assert material == golden["key"] + golden["nonce"]


def test_openssl_deciphers_the_golden_ciphertext(golden: dict[str, Any]) -> None:
    """R-02: GCM's cipher is AES-256-CTR from block 2, which the command has (it has no GCM)."""
    counter = golden["nonce"] + (2).to_bytes(4, "big")
    arguments = ["enc", "-d", "-aes-256-ctr", "-K", golden["key"].hex(), "-iv", counter.hex()]
    assert openssl(arguments, golden["blob"][52:-16]) == golden["plaintext"]


def openssl_hkdf(key: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    options = ["digest:SHA256", f"hexkey:{key.hex()}", f"hexsalt:{salt.hex()}", f"hexinfo:{info.hex()}"]
    chosen = [word for option in options for word in ("-kdfopt", option)]
    return openssl(["kdf", "-binary", "-keylen", str(length), *chosen, "HKDF"], b"")


def openssl(arguments: list[str], given: bytes) -> bytes:
    command = needed("openssl", shutil.which("openssl"))
    return subprocess.run([command, *arguments], input=given, capture_output=True, check=True).stdout


def test_the_second_implementation_is_aes_gcm() -> None:
    """Test case 16 of the GCM submission to NIST: the tests' own AES-GCM is the real one."""
    key = bytes.fromhex("feffe9928665731c6d6a8f9467308308" * 2)
    plaintext = bytes.fromhex(
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
        "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
    )
    associated = bytes.fromhex("feedfacedeadbeeffeedfacedeadbeefabaddad2")
    sealed = second.Gcm(key, bytes.fromhex("cafebabefacedbaddecaf888")).encrypt(plaintext, associated)
    assert sealed.hex() == (
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
        "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
        "76fc6ece0f4e1768cddf8853bb2d551b"
    )
