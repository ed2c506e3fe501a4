"""Writes golden records: `python -m tests.sealing.make_vectors spec/vectors/sealed`.

It uses only the second implementation, so the package is tested against bytes that it did not make. A golden
file is never made again: it is the record of an old release, so existing files stay unchanged. For a new
level of the envelope, add its cases and a folder for them. For a new level of a plaintext, add a case below.
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from tests.sealing import second, second_copies, second_records

Values = dict[str, Any]


def fixed(what: str, length: int) -> bytes:
    """Return bytes that look random and are the same in every run."""
    return hashlib.shake_256(f"swpks golden {what}".encode()).digest(length)


def stored(consumer: int, label: bytes, policy: int, data: bytes) -> Values:
    return {"consumer": consumer, "label": label.hex(), "policy": policy, "data": data.hex()}


EVERY_CONSUMER = [
    stored(1, b"secure-boot-state", 0x04000000, b"\x01"),
    stored(2, b"grub-keys", 0x08000000, fixed("public keys", 300)),
    stored(3, b"disk-key", 0x30000000, fixed("disk key", 32)),
    stored(3, bytes(range(256))[:239], 0, b""),
    stored(1, b"disk-key", 0, b"the same label, another consumer"),
]

LEVEL_1: dict[str, Values] = {
    "image-empty": {"kind": 1, "partition": 1, "generation": 0, "objects": []},
    "image-one-object": {"kind": 1, "partition": 4, "generation": 1, "objects": EVERY_CONSUMER[2:3]},
    "image-every-consumer": {"kind": 1, "partition": 4, "generation": 77, "objects": EVERY_CONSUMER},
    "image-largest-numbers": {
        "kind": 1, "partition": 0xFFFF, "generation": 2**64 - 1,
        "objects": [stored(3, b"x" * 255, 0xFFFFFFFF, fixed("large", 4000))],
    },
    "profile": {
        "kind": 2, "partition": 4, "generation": 9,
        "profile": {"number": 4, "name": "zwölf-büros", "kbytes": 64, "ipl_count": 12, "secure_boot": 2,
                    "auto_start": True, "image_generation": 77},
    },
    "profile-level-2": {
        "kind": 2, "partition": 7, "generation": 3,
        "profile": {"number": 7, "name": "zwölf-büros", "kbytes": 128, "ipl_count": 13, "secure_boot": 1,
                    "auto_start": False, "image_generation": 78, "signed_updates": True,
                    "without_verification": False, "dynamic_keys": True},
    },
    "system": {"kind": 3, "partition": 0, "generation": 2,
               "system": {"firmware": "FW1110", "total_kbytes": 4096}},
}  # fmt: skip


def uuid_of(number: int) -> bytes:
    """Return the UUID (version 4) of a golden partition."""
    found = bytearray(fixed(f"uuid {number}", 16))
    found[6], found[8] = found[6] & 0x0F | 0x40, found[8] & 0x3F | 0x80
    return bytes(found)


def profile(number: int, **others: Any) -> Values:
    switches = dict.fromkeys(second_records.SWITCHES, False)
    access_key = fixed(f"access key {number}", 32).hex()
    return {"number": number, "name": f"lpar{number}", "kbytes": 64, "ipl_count": 0, "secure_boot": 0,
            "auto_start": True, "access_key": access_key, "custody": 1, **switches, **others}  # fmt: skip


def partition(number: int, generation: int, objects: list[Values] | None, **others: Any) -> Values:
    return {"kind": 4, "owner": uuid_of(number).hex(), "generation": generation,
            "profile": profile(number, **others), "objects": objects}  # fmt: skip


def system(roster: list[Values], **others: Any) -> Values:
    found = {"firmware": "FW1110", "total_kbytes": 16384, "roster": roster, **others}
    return {"kind": 3, "owner": bytes(16).hex(), "generation": 0, "system": found}


def listed(number: int, name: str) -> Values:
    return {"uuid": uuid_of(number).hex(), "number": number, "name": name}


def kept(number: int, **facts: Any) -> Values:
    return {"uuid": uuid_of(number).hex(), "profile": fixed(f"fingerprint {number}", 8).hex(), **facts}


def console(copies: list[Values], deleted: list[int], name: str = "hmc1") -> Values:
    copies = sorted(copies, key=lambda each: str(each["uuid"]))
    found = {"id": fixed("console id", 16).hex(), "name": name, "kept": copies,
             "forgotten": [uuid_of(number).hex() for number in deleted]}  # fmt: skip
    return {"kind": 6, "owner": bytes(16).hex(), "generation": 0, "console": found}


def departed(number: int, custody: int, epoch: int, **others: Any) -> Values:
    return {"uuid": uuid_of(number).hex(), "name": f"lpar{number}", "custody": custody, "epoch": epoch,
            "peer": fixed("target", 16).hex(), "reserves_name": False, **others}  # fmt: skip


def custody(*partitions: Values) -> Values:
    return {"kind": 7, "owner": bytes(16).hex(), "generation": 0,
            "departed": sorted(partitions, key=lambda each: str(each["uuid"]))}  # fmt: skip


LEVEL_2: dict[str, Values] = {
    "partition-without-keystore": partition(2, 12, None, kbytes=0, auto_start=False),
    "partition-empty": partition(1, 0, []),
    "partition-one-object": partition(
        4, 1, EVERY_CONSUMER[2:3], name="zwölf-büros", secure_boot=1, ipl_count=13, signed_updates=True
    ),
    "partition-every-consumer": partition(
        7, 77, EVERY_CONSUMER, secure_boot=2, without_verification=True, dynamic_keys=True
    ),
    "partition-largest-numbers": partition(
        0xFFFF, 2**64 - 1, [stored(3, b"x" * 255, 0xFFFFFFFF, fixed("large", 4000))],
        name="n" * 31, kbytes=0xFFFF, ipl_count=2**32 - 1, secure_boot=2,
        **dict.fromkeys(second_records.SWITCHES, True),
    ),
    "partition-restored": partition(5, 80, EVERY_CONSUMER[1:3], ipl_count=9, restores=3),
    "partition-restored-without-keystore": partition(6, 81, None, kbytes=0, restores=2**32 - 1),
    "partition-frozen": partition(
        8, 82, EVERY_CONSUMER[2:3], custody=2, epoch=1, peer=fixed("target", 16).hex()
    ),
    "partition-released": partition(
        9, 83, EVERY_CONSUMER[:2], custody=3, epoch=260, restores=2, peer=fixed("target", 16).hex()
    ),
    "partition-prepared-largest-numbers": partition(
        10, 84, [], custody=6, epoch=2**64 - 1, restores=2**32 - 1, peer="ff" * 16
    ),
    "partition-arrived-without-keystore": partition(11, 85, None, kbytes=0, custody=7, epoch=5),
    "partition-resumed": partition(12, 86, [], epoch=4, peer=fixed("target", 16).hex()),
    "partition-not-restartable": partition(3, 87, [], signed_updates=True, not_restartable=True),
    "system-empty-roster": system([]),
    "system-with-roster": system(
        [listed(1, "lpar1"), listed(4, "zwölf-büros"), listed(0xFFFF, "n" * 31)], total_kbytes=2**32 - 1
    ),
    "system-with-name": system([listed(1, "lpar1")], name="Server-9105-22A of lab_2 rack.7"),
    "system-with-moves": system([listed(1, "lpar1")], moved=True),
    "system-with-name-and-moves": system([], name="rack.7", moved=True),
    "trusted-key": {"kind": 5, "owner": bytes(16).hex(), "generation": 0,
                    "trusted_key": fixed("trusted key", 32).hex()},
    "console": console([], []),
    "console-with-copies": console(
        [kept(1, restores=0, generation=0, time=0, profile=bytes(8).hex()),
         kept(4, restores=2**32 - 1, generation=2**64 - 1, time=2**64 - 1),
         kept(7, restores=2, generation=77, time=1_795_000_000)],
        [2, 3], name="Büro-hmc 1",
    ),
    "custody-nobody": custody(),
    "custody": custody(
        departed(13, 4, 1, reserves_name=True),
        departed(14, 5, 260, peer=bytes(16).hex()),
        departed(15, 4, 2**64 - 1, name="zwölf-büros", peer="ff" * 16),
    ),
}  # fmt: skip

COMMITS: dict[str, tuple[int, list[str]]] = {
    "commit-first": (1, ["system-empty-roster"]),
    "commit": (
        1234,
        ["system-with-roster", "partition-empty", "partition-one-object", "partition-largest-numbers"],
    ),
}
"""The number of a commit, and the golden records that it lists."""

COPIES = {
    "copy-without-keystore": (1, "partition-without-keystore", 0, ""),
    "copy": (1, "partition-every-consumer", 1_795_000_000, "FW1110"),
    "copy-largest-numbers": (1, "partition-largest-numbers", 2**64 - 1, "ü" * 127),
    "copy-level-2": (2, "partition-every-consumer", 1_795_000_000, "FW1110"),
    "copy-level-2-restored": (2, "partition-restored", 1_796_000_000, "FW1110"),
    "copy-level-2-largest-numbers": (2, "partition-restored-without-keystore", 2**64 - 1, "ü" * 127),
}
"""Console copies of golden partitions: the level, the partition, the time, the firmware level."""

WRAPPED = {
    "wrapped-root-key-embedded": (1, fixed("wrapped by the embedded TPM", 76)),
    "wrapped-root-key-tpm-2": (2, fixed("wrapped by a TPM 2.0", 300)),
}
"""The kind of a TPM, and a blob in its form."""

MARKS = {"mark": 1234, "mark-largest-number": 2**64 - 1}


def plaintext_of(case: Values) -> bytes:
    match case["kind"]:
        case 1:
            return second_records.image(case["objects"])
        case 2:
            return second_records.old_profile(case["profile"])
        case 5:
            return second_copies.trusted_key(bytes.fromhex(case["trusted_key"]))
        case 6:
            return second_copies.console(case["console"])
        case 7:
            return second_copies.custody(case["departed"])
        case 3 if "roster" in case["system"]:
            return second_records.system(case["system"])
        case 3:
            return second_records.old_system(case["system"])
    return second_records.partition(case["profile"], case["objects"])


def identity() -> tuple[bytes, bytes]:
    return fixed("system id", 16), fixed("root key", 32)


def in_hex(**values: bytes) -> Values:
    return {name: value.hex() for name, value in values.items()}


def sealed(level: int, name: str, case: Values) -> Values:
    """Return one golden record and all its inputs. Byte strings are in hex."""
    system_id, root_key = identity()
    salt = fixed(name if level == 1 else f"{name} level {level}", 32)
    owner = case["partition"] if level == 1 else bytes.fromhex(case["owner"])
    plaintext = plaintext_of(case)
    steps = second.derive(level, root_key, system_id, owner, salt)._asdict()
    blob = second.seal(level, identity(), case["kind"], owner, case["generation"], salt, plaintext)
    inputs = in_hex(system_id=system_id, root_key=root_key, salt=salt)
    return {"envelope_level": level, **case, **inputs, **in_hex(**steps, plaintext=plaintext, blob=blob)}


def record_id(case: Values) -> bytes:
    return b"system".ljust(16, b"\0") if case["kind"] == 3 else bytes.fromhex(case["owner"])


def commit(number: int, names: list[str]) -> Values:
    _, root_key = identity()
    cases = {name: LEVEL_2[name] for name in names}
    blobs = {record_id(case): bytes.fromhex(sealed(2, name, case)["blob"]) for name, case in cases.items()}
    entries = second_records.entries_of(blobs)
    blob = second_records.commit_record(root_key, number, entries)
    key = second_records.commit_key(root_key)
    return {"commit_level": 1, "number": number, "lists": names,
            **in_hex(root_key=root_key, key=key, entries=entries, mac=blob[16:48], blob=blob)}  # fmt: skip


def mark(number: int) -> Values:
    _, root_key = identity()
    blob, key = second_records.mark_slot(root_key, number), second_records.mark_key(root_key)
    return {"mark_level": 2, "number": number,
            **in_hex(root_key=root_key, key=key, mac=blob[16:], blob=blob)}  # fmt: skip


def copy(name: str, level: int, of: str, time: int, firmware: str) -> Values:
    case = LEVEL_2[of]
    system_id, _ = identity()
    facts = {"system_id": system_id.hex(), "uuid": case["owner"], "generation": case["generation"],
             "time": time, "kbytes": case["profile"]["kbytes"], "firmware": firmware}  # fmt: skip
    facts |= {"restores": case["profile"].get("restores", 0)} if level == 2 else {}
    tsk, salt, plaintext = fixed("trusted key", 32), fixed(f"{name} copy", 32), plaintext_of(case)
    keys = second_copies.copy_keys(tsk, salt, bytes.fromhex(case["owner"]))
    blob = second_copies.copy(tsk, facts, salt, plaintext)
    inputs = in_hex(trusted_key=tsk, tsk_id=second_copies.id_of(tsk), salt=salt)
    return {"copy_level": level, "of": of, "facts": facts, **inputs,
            **in_hex(**keys._asdict(), plaintext=plaintext, blob=blob)}  # fmt: skip


def wrapped(kind: int, blob: bytes) -> Values:
    system_id, root_key = identity()
    record, inside = second_copies.wrapped(kind, blob), system_id + root_key
    return {"wrapped_level": 1, "kind": kind, **in_hex(wrapped=blob, record=record, inside=inside)}


def every_vector() -> dict[str, Values]:
    """Return every golden record, by folder and name."""
    return (
        {f"level-1/{name}": sealed(1, name, case) for name, case in LEVEL_1.items()}
        | {f"level-2/{name}": sealed(2, name, case) for name, case in LEVEL_2.items()}
        | {f"level-2/{name}": commit(*case) for name, case in COMMITS.items()}
        | {f"level-2/{name}": mark(number) for name, number in MARKS.items()}
        | {f"level-2/{name}": copy(name, *case) for name, case in COPIES.items()}
        | {f"level-2/{name}": wrapped(*case) for name, case in WRAPPED.items()}
    )


def main(folder: Path) -> None:
    for name, vector in every_vector().items():
        path = folder / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text(json.dumps(vector, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
