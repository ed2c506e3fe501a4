"""The golden records: this release opens the records of each old release with the same contents."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from hcall_server import sealing
from hcall_server.keystore.image import StoredObject, StoreImage
from hcall_server.platform.identity import SystemIdentity
from hcall_server.platform.trusted_key import TrustedSystemKey
from hcall_server.sealing import (
    CommitAuthority,
    CommitRecord,
    Sealer,
    console_record,
    custody_record,
    level_1,
    trusted_key,
)
from hcall_server.sealing.custody_record import CustodyRecord
from tests.debian.reporting import needed
from tests.sealing import make_vectors, second, second_copies, second_records

FOLDER = Path(__file__).resolve().parents[2] / "spec" / "vectors" / "sealed"
GOLDEN: dict[str, dict[str, Any]] = {
    f"{path.parent.name}/{path.stem}": json.loads(path.read_text("utf-8"))
    for path in sorted(FOLDER.glob("level-*/*.json"))
}
SEALED = sorted(name for name, vector in GOLDEN.items() if "envelope_level" in vector)
COMMITS = sorted(name for name, vector in GOLDEN.items() if "commit_level" in vector)
MARKS = sorted(name for name, vector in GOLDEN.items() if "mark_level" in vector)
SWITCHES = {
    "signed_updates": "keystore_signed_updates",
    "without_verification": "keystore_signed_updates_without_verification",
    "dynamic_keys": "linux_dynamic_key_secure_boot",
}
"""The names of the switches in the golden records. A profile of level 1 has none of them: all are off."""
PUBLISHED_1 = "2a9575b7e61cfa212d6e5f60b2e2817d"
"""The digest of all golden files of level 1 as first published.  No file is added to them."""
PUBLISHED_2 = {
    "commit-first": "62410cf89c7915d809d541b6d2dbf7a3",
    "commit": "9d58c9ce7c7d7113bec6e007355d5fde",
    "mark-largest-number": "f94ce8ebe1c878f54d5f4dcebfa3ffb6",
    "mark": "a2aaaa8ceb254937dd5b75f4176abfb8",
    "partition-empty": "ec14be61c74f1dea918dda79dcaa496d",
    "partition-every-consumer": "658244b684671f0d819d1b6dfe383a39",
    "partition-largest-numbers": "22157f429959139220c551d56d826fbb",
    "partition-one-object": "4956f1d32eb3f0e0cdda8acdddeacfab",
    "partition-without-keystore": "c12deeeb08ced6dcb99a336333f24e44",
    "system-empty-roster": "0384c861af82bea832a76d2672870bf5",
    "system-with-roster": "43263bd1ff8aef4a96ac69ca73d2a21c",
    "system-with-name": "978218759e3e6b5ca5bd11a10edfc4f5",
    "system-with-moves": "5d974c31a5a4dd74649858d2f7572e18",
    "system-with-name-and-moves": "65c0c039177dd2b568b7c063831e2509",
    "trusted-key": "63d5dd00a757d8323013843b6ea28154",
    "console": "1db82e604baa5cde6d0c419ee08dd2d6",
    "console-with-copies": "c302abf5ce999b11898797458574d33f",
    "copy": "b74cafb7e18ceca5c0e1e96d7ca6f15e",
    "copy-without-keystore": "9103245674367d49942bb27d0ed27f12",
    "copy-largest-numbers": "aa9ec0b9f067150206aa739e023ce723",
    "wrapped-root-key-embedded": "805b5469814d1f72a15db1282293d59e",
    "wrapped-root-key-tpm-2": "c6f75f19346ec6476e5046123774fd24",
    "copy-level-2-largest-numbers": "e90fe6254e96472551620584bd76a201",
    "copy-level-2-restored": "a4b44b68ec2417d96561c83d8811da6c",
    "copy-level-2": "79be497601f4a98ae5868049546846d5",
    "partition-restored-without-keystore": "607c6f8497ed6facc2876160be61ff47",
    "partition-restored": "5278540c1b01da29b3789ed582e49d29",
    "custody-nobody": "c129523d6b46d6d055989f8d157e4c81",
    "custody": "8a10026aa8252ab5720aa6a156e911c1",
    "partition-not-restartable": "074b9f1b020c10c1c9de2256ef73c281",
    "partition-frozen": "da72111e0884e6ccb2cd08150f4ddb90",
    "partition-released": "02bce28d6c29e163d1311f6e2ba807c5",
    "partition-prepared-largest-numbers": "b00d63bb2a95dc6a752cbb9cee71e401",
    "partition-arrived-without-keystore": "a6aa1353cddf450a4751e295e5f6e966",
    "partition-resumed": "edac109ac32040cc6b54c58256ff7339",
}
"""The digest of each golden file of level 2 as first published; a new file adds its row."""


def in_bytes(vector: dict[str, Any]) -> dict[str, Any]:
    """Return a golden record whose byte strings are bytes."""
    return {name: bytes.fromhex(value) if isinstance(value, str) else value for name, value in vector.items()}


@pytest.fixture(params=SEALED)
def golden(request: pytest.FixtureRequest) -> dict[str, Any]:
    return in_bytes(GOLDEN[request.param])


def no_entropy(count: int) -> bytes:
    raise AssertionError("opening a record used entropy")


def identity_of(golden: dict[str, Any]) -> SystemIdentity:
    return SystemIdentity(golden["system_id"], golden["root_key"])


def owner_of(golden: dict[str, Any]) -> bytes:
    """Return the owner as bytes: a number at level 1, a UUID from level 2 on."""
    found: bytes = golden["owner"] if "owner" in golden else golden["partition"].to_bytes(2, "big")
    return found


def test_every_level_that_was_ever_written_has_golden_records() -> None:
    """R-02: There are golden records of each sealed level, with each kind of record that the level has."""
    kinds = {(vector["envelope_level"], vector["kind"]) for vector in map(GOLDEN.get, SEALED) if vector}
    assert kinds == {(1, 1), (1, 2), (1, 3), (2, 3), (2, 4), (2, 5), (2, 6), (2, 7)}
    assert {kind for _, kind in kinds} == set(sealing.SealedKind)
    assert COMMITS
    assert MARKS


def test_golden_files_are_what_the_second_implementation_makes() -> None:
    """R-02: The second implementation makes every golden file again with the same bytes."""
    assert make_vectors.every_vector() == GOLDEN


def test_published_golden_files_never_change() -> None:
    """R-02: A published golden file never changes. A new format needs a new level."""
    first = sorted((FOLDER / "level-1").iterdir())
    digest = hashlib.sha256(b"".join(path.name.encode() + path.read_bytes() for path in first))
    assert digest.hexdigest()[:32] == PUBLISHED_1
    second = {path.stem: hashlib.sha256(path.read_bytes()) for path in (FOLDER / "level-2").iterdir()}
    assert {name: digest.hexdigest()[:32] for name, digest in second.items()} == PUBLISHED_2


def test_older_format_levels_load_for_ever(golden: dict[str, Any]) -> None:
    """R-02, R-21: The package opens each golden record and reads its contents."""
    if golden["envelope_level"] == 1:
        assert read_level_1(golden) == contents_of(golden)
    else:
        assert read_level_2(golden) == contents_of(golden)


def contents_of(golden: dict[str, Any]) -> dict[str, Any]:
    """Return the contents of a golden record without keys and sealed bytes."""
    holds = ("profile", "objects", "system", "trusted_key", "console", "departed")
    words: dict[str, Any] = {name: golden[name] for name in holds if name in golden}
    if "profile" in words and "signed_updates" not in words["profile"]:
        words["profile"] = dict.fromkeys(SWITCHES, False) | words["profile"]
    return words


def read_level_1(golden: dict[str, Any]) -> dict[str, Any]:
    """Return the contents of a golden record that the package's reader of level 1 reads."""
    old, number, blob = level_1.OldSealer(identity_of(golden)), golden["partition"], golden["blob"]
    if "objects" in golden:
        return {"objects": objects_in(level_1.open_image(old, number, blob), golden)}
    if "profile" in golden:
        return {"profile": profile_in_words(level_1.open_profile(old, number, blob))}
    found = level_1.open_system(old, blob)
    assert found.roster == ()
    return {"system": {"firmware": found.firmware, "total_kbytes": found.total_kbytes}}


def read_level_2(golden: dict[str, Any]) -> dict[str, Any]:
    """Return the contents of a golden record of level 2 that the package reads."""
    sealer, blob = Sealer(identity_of(golden), no_entropy), golden["blob"]
    if "system" in golden:
        found = sealing.open_system(sealer, blob)
        roster = [each._asdict() | {"uuid": each.uuid.hex} for each in found.roster]
        name = {"name": found.name} if "name" in golden["system"] else {}
        assert found.name == name.get("name", "")
        values = {"firmware": found.firmware, "total_kbytes": found.total_kbytes}
        moved = {"moved": True} if found.moved else {}
        return {"system": {**values, "roster": roster, **name, **moved}}
    if "trusted_key" in golden:
        return {"trusted_key": trusted_key.open_trusted_key(sealer, blob).secret}
    if "console" in golden:
        return {"console": console_in_words(console_record.open_console(sealer, blob))}
    if "departed" in golden:
        return {"departed": custody_in_words(custody_record.open_custody(sealer, blob))}
    profile, image = sealing.open_partition(sealer, UUID(bytes=golden["owner"]), blob)
    assert (profile.uuid.bytes, profile.image_generation) == (golden["owner"], golden["generation"])
    words = profile_in_words(profile) | {"access_key": profile.access_key.hex()}
    del words["uuid"], words["image_generation"]
    return {"profile": words, "objects": objects_in(image, golden) if image else None}


def console_in_words(record: console_record.ConsoleRecord) -> dict[str, Any]:
    """Return a console record in the form of the golden records."""
    kept = [
        {"uuid": uuid.hex, **each._asdict(), "profile": each.profile.hex()}
        for uuid, each in record.kept.items()
    ]
    forgotten = [uuid.hex for uuid in record.forgotten]
    return {"id": record.id.hex(), "name": record.name, "kept": kept, "forgotten": forgotten}


def custody_in_words(record: CustodyRecord) -> list[dict[str, Any]]:
    """Return a custody record in the form of the golden records."""
    peers = [(each.peer or bytes(16)).hex() for each in record]
    plain = [each._asdict() | {"uuid": each.uuid.hex, "custody": int(each.custody)} for each in record]
    return [each | {"peer": peer} for each, peer in zip(plain, peers, strict=True)]


def profile_in_words(profile: Any) -> dict[str, Any]:
    """Return a profile in the form of the golden records."""
    numbers = profile.attributes.numbers
    fields = profile._asdict() | {"kbytes": numbers["keystore_kbytes"], "secure_boot": numbers["secure_boot"]}
    del fields["attributes"]
    fields["peer"] = fields.get("peer", b"").hex()
    for later in "restores", "epoch", "peer":
        if not fields.get(later):
            fields.pop(later, None)
    if not numbers["simplified_remote_restart_capable"]:
        fields["not_restartable"] = True
    return fields | {name: bool(numbers[attribute]) for name, attribute in SWITCHES.items()}


def objects_in(image: StoreImage, golden: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the objects of an image in the form of the golden records.

    Check that its generation is that of the record.
    """
    assert image.generation == golden["generation"]
    return [object_in_words(each) for each in image.objects]


def object_in_words(each: StoredObject) -> dict[str, Any]:
    return each._asdict() | {"label": each.label.hex(), "data": each.data.hex()}


@pytest.mark.parametrize("name", [name for name in SEALED if GOLDEN[name]["envelope_level"] == 2])
def test_sealing_with_the_same_salt_gives_the_golden_bytes(name: str) -> None:
    """R-02: With the same salt, today's package writes the same bytes as the second implementation."""
    golden = in_bytes(GOLDEN[name])
    sealer = Sealer(identity_of(golden), lambda count: golden["salt"][:count])
    if "system" in golden:
        assert sealing.seal_system(sealer, sealing.open_system(sealer, golden["blob"])) == golden["blob"]
        return
    if "trusted_key" in golden:
        key = TrustedSystemKey(golden["trusted_key"])
        assert trusted_key.seal_trusted_key(sealer, key) == golden["blob"]
        return
    if "console" in golden:
        found = console_record.open_console(sealer, golden["blob"])
        assert console_record.seal_console(sealer, found) == golden["blob"]
        return
    if "departed" in golden:
        left = custody_record.open_custody(sealer, golden["blob"])
        assert custody_record.seal_custody(sealer, left) == golden["blob"]
        return
    record = sealing.open_partition(sealer, UUID(bytes=golden["owner"]), golden["blob"])
    assert sealing.seal_partition(sealer, record) == golden["blob"]


def test_the_second_implementation_opens_golden_records(golden: dict[str, Any]) -> None:
    """R-02: Code without any part of the package opens each golden record."""
    identity = golden["system_id"], golden["root_key"]
    level, kind = golden["envelope_level"], golden["kind"]
    opened = second.open_blob(level, identity, kind, owner_of(golden), golden["blob"])
    assert opened == (golden["generation"], golden["plaintext"])
    match level, kind:
        case 1, 1:
            assert second_records.objects_of(golden["plaintext"]) == golden["objects"]
        case 2, 4:
            found = second_records.partition_of(golden["plaintext"])
            assert found == (golden["profile"], golden["objects"])
        case 2, 3:
            assert second_records.system_of(golden["plaintext"]) == golden["system"]
        case 2, 5:
            assert second_copies.trusted_key_of(golden["plaintext"]) == golden["trusted_key"]
        case 2, 6:
            assert second_copies.console_of(golden["plaintext"]) == golden["console"]
        case 2, 7:
            assert second_copies.custody_of(golden["plaintext"]) == golden["departed"]


@pytest.mark.parametrize("name", COMMITS)
def test_a_golden_commit_record_is_read_and_made_again(name: str) -> None:
    """R-02: The package reads a golden commit record, and makes the same bytes from the golden records."""
    golden = in_bytes({**GOLDEN[name], "lists": None})
    authority = CommitAuthority(golden["root_key"])
    blobs = {}
    for listed in GOLDEN[name]["lists"]:
        vector = GOLDEN[f"level-2/{listed}"]
        record = b"system" + bytes(10) if "system" in vector else bytes.fromhex(vector["owner"])
        blobs[record] = bytes.fromhex(vector["blob"])
    made = CommitRecord(golden["number"] - 1, b"").after(blobs)
    assert made == CommitRecord(golden["number"], golden["entries"])
    assert authority.decode(golden["blob"]) == made
    assert authority.encode(made) == golden["blob"]
    assert all(made.lists(record, blob) for record, blob in blobs.items())


@pytest.mark.parametrize("name", MARKS)
def test_a_golden_mark_is_read_and_made_again(name: str) -> None:
    """R-22: The package reads the number of a golden mark, and makes the same bytes from the number."""
    golden = in_bytes(GOLDEN[name])
    authority = CommitAuthority(golden["root_key"])
    assert authority.marked(golden["blob"]) == golden["number"]
    assert authority.mark(golden["number"]) == golden["blob"]


def test_openssl_derives_the_same_keys(golden: dict[str, Any]) -> None:
    """R-02: `openssl kdf HKDF` derives the same partition key, and from it the same key and nonce."""
    level, owner = golden["envelope_level"], owner_of(golden)
    info = b"swpks partition key %d" % level + owner
    partition_key = openssl_hkdf(golden["root_key"], info, 32, salt=golden["system_id"])
    assert partition_key == golden["partition_key"]
    if level == 1:
        material = openssl_hkdf(partition_key, b"swpks sealing 1", 44, salt=golden["salt"])
    else:
        material = openssl_hkdf(partition_key, b"swpks sealing 2" + golden["salt"], 44)
    assert material == golden["key"] + golden["nonce"]


@pytest.mark.parametrize("name", [*COMMITS, *MARKS])
def test_openssl_makes_the_same_macs(name: str) -> None:
    """R-02: `openssl kdf` derives the keys of commit records and marks; `openssl mac` makes their MACs."""
    vector = GOLDEN[name]
    golden = in_bytes({**vector, "lists": None})
    info = b"swpks commit 1" if "commit_level" in vector else b"swpks mark 1"
    key = openssl_hkdf(golden["root_key"], info, 32)
    assert key == golden["key"]
    counted = golden["number"].to_bytes(8, "big") + golden.get("entries", b"")
    arguments = ["mac", "-digest", "SHA256", "-macopt", f"hexkey:{key.hex()}", "-binary", "-in", "-", "HMAC"]
    assert openssl(arguments, counted) == golden["mac"]


def test_openssl_deciphers_the_golden_ciphertext(golden: dict[str, Any]) -> None:
    """R-02: openssl deciphers a golden record as AES-256-CTR from block 2 on, because it has no GCM."""
    counter = golden["nonce"] + (2).to_bytes(4, "big")
    arguments = ["enc", "-d", "-aes-256-ctr", "-K", golden["key"].hex(), "-iv", counter.hex()]
    assert openssl(arguments, golden["blob"][52:-16]) == golden["plaintext"]


def openssl_hkdf(key: bytes, info: bytes, length: int, *, salt: bytes | None = None) -> bytes:
    """Return HKDF by the openssl command: both steps with a salt, only the second step without one."""
    step = [f"hexsalt:{salt.hex()}"] if salt is not None else ["mode:EXPAND_ONLY"]
    options = ["digest:SHA256", f"hexkey:{key.hex()}", f"hexinfo:{info.hex()}", *step]
    chosen = [word for option in options for word in ("-kdfopt", option)]
    return openssl(["kdf", "-binary", "-keylen", str(length), *chosen, "HKDF"], b"")


def openssl(arguments: list[str], given: bytes) -> bytes:
    command = needed("openssl", shutil.which("openssl"))
    return subprocess.run([command, *arguments], input=given, capture_output=True, check=True).stdout


def test_the_second_implementation_is_aes_gcm() -> None:
    """The AES-GCM of the tests gives the result of test case 16 in the GCM submission to NIST."""
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
