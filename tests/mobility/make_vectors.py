"""Write the golden conversations of the mobility channel: `python -m tests.mobility.make_vectors FOLDER`.

They are made only with the package `noiseprotocol`, so they test our code against another implementation.
The ephemeral keys are fixed. An existing golden file is never made again.
"""

import hashlib
import json
import sys
from pathlib import Path

from tests.mobility import second

CASES = {"short": (1, 16), "full-frame": (1, 65519), "many": (24, 33)}
"""The number of messages in each direction, and the length of each, by name."""


def fixed(what: str, length: int) -> bytes:
    """Return bytes that look random, and are the same in every run."""
    return hashlib.shake_256(f"swpks noise {what}".encode()).digest(length)


def prologue() -> bytes:
    """Return the prologue of all cases: version, UUID, epoch, source and target (spec/migration.md)."""
    ids = [fixed(what, 16) for what in ("uuid", "source", "target")]
    return b"swpks migration 1" + ids[0] + (7).to_bytes(8, "big") + ids[1] + ids[2]


def vector(name: str) -> dict[str, object]:
    """Return one golden conversation with all its inputs; byte strings are in hex."""
    count, length = CASES[name]
    token, keys = fixed("token", 32), (fixed(f"{name} opener", 32), fixed(f"{name} answerer", 32))
    opener = second.end(True, token, prologue(), keys[0])
    answerer = second.end(False, token, prologue(), keys[1])
    first = second.write(opener)
    second.read(answerer, first)
    reply = second.write(answerer)
    second.read(opener, reply)
    texts = [fixed(f"{name} text {number}", length) for number in range(count)]
    return {
        "protocol": "Noise_NNpsk0_25519_AESGCM_SHA256",
        "token": token.hex(),
        "prologue": prologue().hex(),
        "opener_ephemeral": keys[0].hex(),
        "answerer_ephemeral": keys[1].hex(),
        "first": first.hex(),
        "second": reply.hex(),
        "hash": second.hash_of(opener).hex(),
        "texts_sha256": hashlib.sha256(b"".join(texts)).hexdigest(),
        "opener_sends_sha256": [hashlib.sha256(second.encrypt(opener, each)).hexdigest() for each in texts],
        "answerer_sends_sha256": [
            hashlib.sha256(second.encrypt(answerer, each)).hexdigest() for each in texts
        ],
    }


def main(folder: Path) -> None:
    """Write the file of every case that has none yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in CASES:
        with (folder / f"{name}.json").open("x", encoding="utf-8") as out:
            out.write(json.dumps(vector(name), indent=2) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
