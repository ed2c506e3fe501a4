"""A migrating partition for the second implementation, and the writer of its golden files.

Written only from spec/sealed.md, as `second_records` is.  `python -m tests.sealing.second_travellers
spec/vectors/travelling` writes the missing files: a golden file is never made again.
"""

import json
import struct
import sys
from pathlib import Path
from typing import Any

from tests.sealing import make_vectors, second_records
from tests.sealing.second_records import Values

SHARED = ["passwords", "objects", "listings"]


def traveller(values: Values) -> bytes:
    """Return the bytes of a migrating partition."""
    used = values["used"] or {name: [] for name in SHARED}
    record = second_records.partition(values["profile"], values["stored"])
    passwords = [(each["consumer"], bytes.fromhex(each["secret"])) for each in used["passwords"]]
    places = b"".join(struct.pack(">I", each["place"]) for each in used["objects"])
    objects = second_records.image([each["object"] for each in used["objects"]])
    start = struct.pack(">HBB", 1, values["secure_boot"], int(values["used"] is not None))
    return b"".join(
        [
            start + bytes.fromhex(values["uuid"]) + struct.pack(">Q", values["generation"]),
            _sized(record) + bytes([len(passwords)]),
            *(struct.pack(">BH", consumer, len(secret)) + secret for consumer, secret in passwords),
            _sized(places) + _sized(objects) + bytes([len(used["listings"])]),
            *map(_listing, used["listings"]),
        ]
    )


def _sized(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


def _listing(each: Values) -> bytes:
    labels = [bytes.fromhex(label) for label in each["labels"]]
    joined = b"".join(struct.pack(">H", len(label)) + label for label in labels)
    return struct.pack(">QB", each["token"], each["consumer"]) + _sized(joined)


def traveller_of(plaintext: bytes) -> Values:
    """Return the contents of a migrating partition in the words of the golden files."""
    level, secure_boot, has_used = struct.unpack_from(">HBB", plaintext)
    assert level == 1
    uuid, (generation,), rest = plaintext[4:20].hex(), struct.unpack_from(">Q", plaintext, 20), plaintext[28:]
    record, rest = _taken(rest)
    profile, stored = second_records.partition_of(record)
    passwords, listings = [], []
    count, rest = rest[0], rest[1:]
    for _ in range(count):
        consumer, size = struct.unpack_from(">BH", rest)
        passwords.append({"consumer": consumer, "secret": rest[3 : 3 + size].hex()})
        rest = rest[3 + size :]
    placed, rest = _taken(rest)
    image, rest = _taken(rest)
    places = [place for (place,) in struct.iter_unpack(">I", placed)]
    found = second_records.objects_of(image)
    objects = [{"place": place, "object": each} for place, each in zip(places, found, strict=True)]
    count, rest = rest[0], rest[1:]
    for _ in range(count):
        token, consumer = struct.unpack_from(">QB", rest)
        joined, rest = _taken(rest[9:])
        labels = []
        while joined:
            size = 2 + int.from_bytes(joined[:2], "big")
            labels.append(joined[2:size].hex())
            joined = joined[size:]
        listings.append({"token": token, "consumer": consumer, "labels": labels})
    assert rest == b""
    used = dict(zip(SHARED, (passwords, objects, listings), strict=True)) if has_used else None
    return {"uuid": uuid, "generation": generation, "secure_boot": secure_boot,
            "profile": profile, "stored": stored, "used": used}  # fmt: skip


def _taken(rest: bytes) -> tuple[bytes, bytes]:
    (size,) = struct.unpack_from(">I", rest)
    assert len(rest) >= 4 + size
    return rest[4 : 4 + size], rest[4 + size :]


def case(of: str, secure_boot: int, used: Values | None) -> Values:
    """Return a golden file of a migrating partition."""
    found = make_vectors.LEVEL_2[of]
    return {"uuid": found["owner"], "generation": found["generation"], "secure_boot": secure_boot,
            "profile": found["profile"], "stored": found["objects"], "used": used}  # fmt: skip


def placed(place: int, *stored: Any) -> Values:
    return {"place": place, "object": make_vectors.stored(*stored)}


CASES: dict[str, Values] = {
    "powered-off": case("partition-one-object", 0, None),
    "without-keystore": case("partition-without-keystore", 2, None),
    "running": case("partition-restored", 1, {name: [] for name in SHARED}),
    "everything": case(
        "partition-every-consumer",
        2,
        {
            "passwords": [
                {"consumer": consumer, "secret": make_vectors.fixed(f"password {consumer}", 32).hex()}
                for consumer in (1, 3)
            ],
            "objects": [
                placed(0, 1, b"SB_VERSION", 0x08000008, b"\1"),
                placed(2, 3, b"transient", 0x02000000, make_vectors.fixed("transient", 64)),
                placed(7, 3, b"last", 0x02800000, make_vectors.fixed("wrapping key", 32)),
            ],
            "listings": [
                {"token": 1, "consumer": 1, "labels": [b"secure-boot-state".hex()]},
                {"token": 2**64 - 1, "consumer": 3, "labels": [b"removed since".hex(), "", bytes(239).hex()]},
            ],
        },
    ),
}


def every_vector() -> dict[str, Values]:
    """Return every golden file by name: the values, and their bytes."""
    return {name: {**values, "bytes": traveller(values).hex()} for name, values in CASES.items()}


if __name__ == "__main__":
    for name, vector in every_vector().items():
        path = Path(sys.argv[1]) / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text(json.dumps(vector, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
