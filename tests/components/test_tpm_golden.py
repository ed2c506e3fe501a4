"""Golden files of the embedded TPM: the package, a second implementation and openssl open them."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from hcall_server.components.tpm.blobs import decoded_seed, encoded_seed, unwrapped, wrapped
from hcall_server.components.tpm.embedded import EmbeddedTpm
from tests.components import make_tpm_vectors, second_tpm
from tests.debian.reporting import needed

FOLDER = Path(__file__).resolve().parents[2] / "spec" / "vectors" / "tpm"
VECTORS = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(FOLDER.glob("*.json"))}
PUBLISHED = {
    "empty-secret": "bf821e30dc7446de08260b7cffa3c002",
    "longest-secret": "4278245542ed297b8e92e1bcabbfa77f",
    "root-key": "d7e33f3645af746bb624313576a92cc4",
}
"""The digest of each file at its first publication; a new file adds its row."""


@pytest.fixture(params=VECTORS)
def golden(request: pytest.FixtureRequest) -> dict[str, bytes]:
    """The values of one golden file, as byte strings."""
    return {name: bytes.fromhex(value) for name, value in VECTORS[request.param].items() if name != "level"}


def test_the_files_are_what_they_say() -> None:
    """Each golden file equals the output of the second implementation."""
    assert {name: make_tpm_vectors.vector(name) for name in make_tpm_vectors.CASES} == VECTORS


def test_published_files_never_change() -> None:
    """A published golden file never changes: another format needs a new level."""
    digests = {path.stem: hashlib.sha256(path.read_bytes()).hexdigest()[:32] for path in FOLDER.iterdir()}
    assert digests == PUBLISHED


def test_the_package_makes_and_opens_them(golden: dict[str, bytes]) -> None:
    """From the same seed and salt, the package makes the same bytes, and opens them."""
    assert unwrapped(golden["seed"], golden["blob"]) == golden["secret"]
    assert wrapped(golden["seed"], golden["salt"], golden["secret"]) == golden["blob"]
    assert encoded_seed(golden["seed"]) == golden["seed_file"]
    assert decoded_seed(golden["seed_file"]) == golden["seed"]


def test_a_folder_of_an_old_release_opens(golden: dict[str, bytes], tmp_path: Path) -> None:
    """The package opens the seed file and the blob of an old release's state."""
    tmp_path.chmod(0o700)
    (tmp_path / "seed").touch(0o600)
    (tmp_path / "seed").write_bytes(golden["seed_file"])
    tpm = EmbeddedTpm(tmp_path, "tpm", lambda count: golden["salt"][:count])
    assert tpm.unseal(golden["blob"]) == golden["secret"]
    assert tpm.seal(golden["secret"]) == golden["blob"]
    assert (tmp_path / "seed").read_bytes() == golden["seed_file"]


def test_the_second_implementation_opens_new_blobs(tmp_path: Path) -> None:
    """Each implementation opens blobs of the other."""
    tmp_path.chmod(0o700)
    tpm = EmbeddedTpm(tmp_path, "tpm", lambda count: bytes(range(count)))
    blob = tpm.seal(b"secret")
    seed = (tmp_path / "seed").read_bytes()[8:40]
    assert second_tpm.seed_file(seed) == (tmp_path / "seed").read_bytes()
    assert second_tpm.unseal(seed, blob) == b"secret"
    assert tpm.unseal(second_tpm.seal(seed, bytes(32), b"other")) == b"other"


def test_openssl_derives_and_decrypts_the_same(golden: dict[str, bytes]) -> None:
    """openssl derives the same key, and decrypts the blob with GCM's counter mode."""
    derived = _openssl(
        "kdf", "-binary", "-keylen", "44", "-kdfopt", "digest:SHA2-256",
        "-kdfopt", f"hexkey:{golden['seed'].hex()}", "-kdfopt", f"hexsalt:{golden['salt'].hex()}",
        "-kdfopt", f"hexinfo:{second_tpm.INFO.hex()}", "HKDF",
    )  # fmt: skip
    assert derived == golden["key"] + golden["nonce"]
    counter = golden["nonce"] + (2).to_bytes(4, "big")
    ciphertext = golden["blob"][33:-16]
    found = _openssl(
        "enc", "-d", "-aes-256-ctr", "-K", golden["key"].hex(), "-iv", counter.hex(), given=ciphertext
    )
    assert found == golden["secret"]


def _openssl(*words: str, given: bytes = b"") -> bytes:
    openssl = needed("openssl", shutil.which("openssl"))
    return subprocess.run([openssl, *words], input=given, capture_output=True, check=True).stdout
