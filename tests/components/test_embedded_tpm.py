"""The embedded TPM: a seed in a file, and blobs that only this seed can open."""

import os
import stat
from hashlib import sha256
from pathlib import Path

import pytest

from hcall_abi.errors import OperatorError, StorageError
from hcall_abi.rules import storage as rules
from hcall_server.components.memory import MemoryTpm
from hcall_server.components.seam import Tpm, TpmRefusedError, TpmSilentError
from hcall_server.components.tpm.blobs import encoded_seed
from hcall_server.components.tpm.embedded import EmbeddedTpm

SECRET = b"CANARY-root-key-0123456789abcdef"
SEED = b"CANARY-seed-of-embedded-tpm-3210"


def entropy_of(*pieces: bytes):
    """Return an entropy source that returns these pieces in turn."""
    left = list(pieces)

    def entropy(count: int) -> bytes:
        piece = left.pop(0)
        assert len(piece) == count
        return piece

    return entropy


@pytest.fixture
def tpm(tmp_path: Path) -> EmbeddedTpm:
    return EmbeddedTpm(tmp_path / "tpm", "tpm", os.urandom)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tpm" / "seed"


def test_a_secret_comes_back(tpm: EmbeddedTpm, file: Path) -> None:
    """A secret can be unsealed after a restart too. The seed is made once, with the first secret."""
    part: Tpm = tpm
    assert not file.parent.exists()
    blob, other = part.seal(SECRET), part.seal(SECRET)
    assert blob != other
    assert SECRET not in blob
    assert [stat.S_IMODE(path.stat().st_mode) for path in (file, file.parent)] == [0o600, 0o700]
    later = EmbeddedTpm(file.parent, "tpm", entropy_of())
    assert [later.unseal(each) for each in (blob, other)] == [SECRET, SECRET]
    assert (part.name, part.kind) == ("tpm", "embedded")
    assert [path.name for path in file.parent.iterdir()] == ["seed"]


def test_the_seed_is_durable_before_the_blob_exists(tmp_path: Path) -> None:
    """The seed is written before the salt of the first blob is taken from the entropy."""
    asked: list[tuple[int, bool]] = []
    file = tmp_path / "tpm" / "seed"

    def entropy(count: int) -> bytes:
        asked.append((count, file.exists()))
        return bytes(count)

    EmbeddedTpm(tmp_path / "tpm", "tpm", entropy).seal(SECRET)
    assert asked == [(32, False), (32, True)]


def test_a_secret_that_no_tpm_seals(tpm: EmbeddedTpm) -> None:
    """A secret must not be longer than a real TPM allows. So it still fits after a change of the kind."""
    assert tpm.unseal(tpm.seal(bytes(128))) == bytes(128)
    with pytest.raises(ValueError, match="at most 128 bytes"):
        tpm.seal(bytes(129))


def test_every_flipped_bit_of_a_blob_is_refused(tpm: EmbeddedTpm) -> None:
    blob = tpm.seal(SECRET)
    for bit in range(8 * len(blob)):
        damaged = bytearray(blob)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(TpmRefusedError) as caught:
            tpm.unseal(bytes(damaged))
        assert "CANARY" not in repr(caught.value)


def test_every_other_length_of_a_blob_is_refused(tpm: EmbeddedTpm) -> None:
    blob = tpm.seal(SECRET)
    for other in (*(blob[:length] for length in range(len(blob))), blob + b"x"):
        with pytest.raises(TpmRefusedError):
            tpm.unseal(other)


def test_a_tpm_without_its_seed_is_a_new_one(tpm: EmbeddedTpm, file: Path) -> None:
    """Without the seed, unseal fails and makes no new one. With a new seed, unseal refuses the old blob."""
    blob = tpm.seal(SECRET)
    file.unlink()
    with pytest.raises(TpmRefusedError, match=f"{file} does not exist: this is a new TPM"):
        tpm.unseal(blob)
    assert not file.exists()
    tpm.seal(SECRET)
    with pytest.raises(TpmRefusedError, match="made by another TPM"):
        tpm.unseal(blob)


@pytest.mark.parametrize("length", [0, 71, 73])
def test_a_seed_of_another_length_is_not_replaced(tpm: EmbeddedTpm, file: Path, length: int) -> None:
    tpm.seal(SECRET)
    file.write_bytes((file.read_bytes() + b"x")[:length])
    refused_seed(tpm, file, "layout of level 1")


def test_a_damaged_seed_is_not_replaced(tmp_path: Path, file: Path) -> None:
    """If any byte of the seed is damaged, seal and unseal fail with advice, and the file stays."""
    tpm = EmbeddedTpm(tmp_path / "tpm", "tpm", entropy_of(SEED, bytes(32)))
    tpm.seal(SECRET)
    good = file.read_bytes()
    for at in range(len(good)):
        damaged = bytearray(good)
        damaged[at] ^= 1 << at % 8
        file.write_bytes(damaged)
        refused_seed(tpm, file, "check value is wrong")


@pytest.mark.parametrize("at", [0, 4, 5, 6, 7])
def test_a_seed_of_another_level_is_refused(tpm: EmbeddedTpm, file: Path, at: int) -> None:
    """A wrong magic, level or reserved byte is refused, even if the check value is right."""
    body = bytearray(encoded_seed(SEED)[:40])
    body[at] ^= 2
    file.parent.mkdir(mode=0o700)
    file.touch(0o600)
    file.write_bytes(body + sha256(body).digest())
    refused_seed(tpm, file, "level 3 of a later release" if at == 4 else "layout of level 1")


def refused_seed(tpm: EmbeddedTpm, file: Path, reason: str) -> None:
    """Assert that seal and unseal refuse the seed with advice, show nothing of it, and change nothing."""
    before = file.read_bytes()
    for attempt in (lambda: tpm.seal(SECRET), lambda: tpm.unseal(bytes(81))):
        with pytest.raises(StorageError, match=f"tpm: {file} .*{reason}.*swpks hmc replace tpm") as caught:
            attempt()
        assert caught.value.rule is rules.TPM_SEED
        assert not isinstance(caught.value, TpmRefusedError)
        assert "CANARY" not in repr(caught.value)
    assert file.read_bytes() == before


@pytest.mark.parametrize("which,mode", [("file", 0o640), ("folder", 0o701)])
def test_a_seed_open_to_others_is_refused(tpm: EmbeddedTpm, file: Path, which: str, mode: int) -> None:
    blob = tpm.seal(SECRET)
    path = file if which == "file" else file.parent
    path.chmod(mode)
    with pytest.raises(OperatorError, match=f"{path} has mode {mode:04o}") as caught:
        tpm.unseal(blob)
    assert caught.value.rule is rules.TPM_MODE


@pytest.mark.parametrize("which", ["file", "folder"])
def test_a_link_is_neither_read_nor_written(tpm: EmbeddedTpm, file: Path, which: str) -> None:
    blob = tpm.seal(SECRET)
    path = file if which == "file" else file.parent
    path.symlink_to(path.rename(path.with_name("elsewhere")))
    for attempt in (lambda: tpm.seal(SECRET), lambda: tpm.unseal(blob)):
        with pytest.raises(OperatorError) as caught:
            attempt()
        assert caught.value.rule is rules.STATE_LINK


def test_a_seed_that_cannot_be_written_gives_no_blob(tpm: EmbeddedTpm, file: Path) -> None:
    (file.parent / "seed.new").mkdir(parents=True)
    with pytest.raises(StorageError, match=f"{file} can't be written"):
        tpm.seal(SECRET)
    assert not file.exists()


def test_nothing_shows_a_secret(tpm: EmbeddedTpm) -> None:
    tpm.seal(SECRET)
    assert "CANARY" not in f"{tpm!r} {vars(tpm)!r}"


@pytest.mark.parametrize("sizes", [(31,), (32, 31)])
def test_too_little_entropy_is_no_key(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    pieces = iter([bytes(size) for size in sizes])
    with pytest.raises(ValueError, match="too few bytes"):
        EmbeddedTpm(tmp_path / "tpm", "tpm", lambda _: next(pieces)).seal(SECRET)


def test_the_tpm_in_memory() -> None:
    """Two TPMs in memory differ unless they have the same seed. A test can make one silent."""
    one, other = MemoryTpm(), MemoryTpm("tpm-2")
    blob = one.seal(SECRET)
    assert SECRET not in blob
    assert blob != one.seal(SECRET)
    assert MemoryTpm("tpm", one.seed).unseal(blob) == SECRET
    with pytest.raises(TpmRefusedError, match="tpm-2: the copy was made by another TPM"):
        other.unseal(blob)
    one.silent = True
    for attempt in (lambda: one.seal(SECRET), lambda: one.unseal(blob)):
        with pytest.raises(TpmSilentError, match="tpm is silent"):
            attempt()
    part: Tpm = one
    assert (part.name, part.kind, repr(part)) == ("tpm", "embedded", "MemoryTpm('tpm')")
