"""Write golden files of the embedded TPM: `python -m tests.components.make_tpm_vectors spec/vectors/tpm`.

Only the second implementation is used. An existing golden file is never made again, because it stands for the
output of an old release.
"""

import hashlib
import json
import sys
from pathlib import Path

from tests.components import second_tpm

CASES = {"root-key": 32, "longest-secret": 128, "empty-secret": 0}
"""The length of the sealed secret, by name."""


def fixed(what: str, length: int) -> bytes:
    """Return bytes that look random, and are the same in every run."""
    return hashlib.shake_256(f"swpks embedded tpm {what}".encode()).digest(length)


def vector(name: str) -> dict[str, object]:
    """Return one golden blob with all its inputs; byte strings are in hex."""
    seed, salt, secret = fixed("seed", 32), fixed(name, 32), fixed(f"{name} secret", CASES[name])
    key, nonce = second_tpm.derive(seed, salt)
    values = {
        "seed": seed,
        "seed_file": second_tpm.seed_file(seed),
        "salt": salt,
        "key": key,
        "nonce": nonce,
        "secret": secret,
        "blob": second_tpm.seal(seed, salt, secret),
    }
    return {"level": 1} | {name: value.hex() for name, value in values.items()}


def main(folder: Path) -> None:
    """Write the file of every case that has none yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in CASES:
        with (folder / f"{name}.json").open("x", encoding="utf-8") as out:
            out.write(json.dumps(vector(name), indent=2) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
