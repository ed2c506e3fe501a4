"""The golden wrapped objects, opened by the package, by a second implementation and with openssl."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from hcall_server import wrapping
from hcall_server.keystore.key_ids import key_id_of
from tests.debian.reporting import needed
from tests.wrapping import make_vectors, second

FOLDER = Path(__file__).resolve().parents[2] / "spec" / "vectors" / "wrapped"
VECTORS = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(FOLDER.glob("*.json"))}


@pytest.fixture(params=VECTORS)
def golden(request: pytest.FixtureRequest) -> dict[str, bytes]:
    """Return the values of one golden file, as byte strings."""
    return {name: bytes.fromhex(value) for name, value in VECTORS[request.param].items() if name not in SHOWN}


SHOWN = ("level", "flags")


def test_the_files_are_what_they_say() -> None:
    """R-71: the second implementation still makes each golden file."""
    assert set(VECTORS) == set(make_vectors.CASES)
    for name, vector in VECTORS.items():
        assert vector == make_vectors.vector(name)


def test_the_package_makes_and_opens_them(golden: dict[str, bytes]) -> None:
    """R-71: from key, salt and flags the package makes the same bytes, and unwraps them to the data."""
    key, wrapped = golden["wrapping_key"], golden["wrapped"]
    header = wrapping.read_header(wrapped)
    assert (header.key_id, header.salt, header.length) == (
        golden["key_id"], golden["salt"], len(golden["data"]),
    )  # fmt: skip
    assert key_id_of(key) == golden["key_id"]
    assert wrapping.open_wrapped(key, wrapped) == golden["data"]
    assert wrapping.wrap(key, golden["key_id"], header.flags, golden["salt"], golden["data"]) == wrapped
    assert len(wrapped) == len(golden["data"]) + 1024
    assert second.unwrap(key, wrapped) == (header.flags, golden["data"])


def test_openssl_derives_the_same(golden: dict[str, bytes]) -> None:
    """R-71: openssl, a third implementation, gives the same HKDF, HMAC and GCM counter mode."""
    hexkey, salt, info = golden["wrapping_key"].hex(), golden["salt"].hex(), b"swpks wrapping 1".hex()
    derived = _openssl(
        "kdf", "-binary", "-keylen", "44", "-kdfopt", "digest:SHA2-256", "-kdfopt", f"hexkey:{hexkey}",
        "-kdfopt", f"hexsalt:{salt}", "-kdfopt", f"hexinfo:{info}", "HKDF",
    )  # fmt: skip
    assert derived == golden["key"] + golden["nonce"]
    named = _openssl(
        "dgst", "-sha256", "-mac", "HMAC", "-macopt", f"hexkey:{hexkey}", "-binary",
        given=b"swpks wrapping key id 1",
    )  # fmt: skip
    assert named[:16] == golden["key_id"]
    counter = golden["nonce"] + (2).to_bytes(4, "big")
    ciphertext = _openssl(
        "enc", "-aes-256-ctr", "-K", golden["key"].hex(), "-iv", counter.hex(), given=golden["data"]
    )
    assert ciphertext == golden["wrapped"][1024:]


def _openssl(*words: str, given: bytes = b"") -> bytes:
    openssl = needed("openssl", shutil.which("openssl"))
    done = subprocess.run([openssl, *words], input=given, capture_output=True, check=True)
    return done.stdout
