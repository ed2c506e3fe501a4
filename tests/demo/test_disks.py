"""The disks of the demo. Each kind is really used if the machine has the tools."""

import hashlib
import json
import os
import secrets
import subprocess
from base64 import b64decode
from pathlib import Path

import pytest

from swpks.demo import luks
from swpks.demo.aes_file import AesFile
from swpks.demo.best_disk import make_disk
from swpks.demo.disk import Disk, DiskError, WrongKeyError
from tests.debian.reporting import needed

KEY = secrets.token_bytes(64)
NOTE = b"a note that is longer than one sector: " + bytes(range(256)) * 5


@pytest.fixture
def cryptsetup() -> str:
    """The path of cryptsetup. If it is missing, the test fails in CI."""
    return needed("cryptsetup", luks.find_cryptsetup())


@pytest.fixture
def container(cryptsetup: str, tmp_path: Path) -> luks.Container:
    return luks.Container.make(cryptsetup, tmp_path / "disk", KEY)


def hold(disk: Disk, file: Path) -> None:
    """Assert what every kind of disk promises."""
    disk.write(KEY, NOTE)
    assert disk.read(KEY, len(NOTE)) == NOTE
    assert disk.read(KEY, 5) == NOTE[:5]
    assert NOTE[:16] not in file.read_bytes()
    for wrong in (secrets.token_bytes(64), KEY[:-1], KEY + b"\0"):
        with pytest.raises(WrongKeyError):
            disk.read(wrong, 1)
        with pytest.raises(WrongKeyError):
            disk.write(wrong, b"overwritten")
    assert disk.read(KEY, len(NOTE)) == NOTE


def test_an_aes_file_opens_with_its_key_alone(tmp_path: Path) -> None:
    hold(AesFile.make(tmp_path / "disk", KEY), tmp_path / "disk")


def test_an_aes_file_notices_damage(tmp_path: Path) -> None:
    disk = AesFile.make(tmp_path / "disk", KEY)
    disk.write(KEY, NOTE)
    content = bytearray((tmp_path / "disk").read_bytes())
    content[40] ^= 1
    (tmp_path / "disk").write_bytes(content)
    with pytest.raises(WrongKeyError):
        disk.read(KEY, 1)


def test_an_unmapped_container_opens_with_its_key_alone(container: luks.Container, tmp_path: Path) -> None:
    hold(luks.UnmappedDisk(container), tmp_path / "disk")


def test_the_volume_key_is_the_one_that_the_header_vouches_for(
    cryptsetup: str, container: luks.Container, tmp_path: Path
) -> None:
    """The digest in the LUKS2 header is that of the volume key; the test computes it with PBKDF2."""
    dumped = subprocess.run(
        [cryptsetup, "luksDump", "--dump-json-metadata", str(tmp_path / "disk")],
        capture_output=True, check=True,
    )  # fmt: skip
    digest = json.loads(dumped.stdout)["digests"]["0"]
    volume_key = container.volume_key(KEY)
    found = hashlib.pbkdf2_hmac(digest["hash"], volume_key, b64decode(digest["salt"]), digest["iterations"])
    assert len(volume_key) == 64
    assert found == b64decode(digest["digest"])


def test_cryptsetup_itself_decrypts_what_was_written_unmapped(
    cryptsetup: str, container: luks.Container, tmp_path: Path
) -> None:
    """cryptsetup decrypts the disk to the sectors that were written, so it is a genuine LUKS2 disk."""
    luks.UnmappedDisk(container).write(KEY, NOTE)
    done = subprocess.run(
        [cryptsetup, "reencrypt", "--decrypt", "--force-offline-reencrypt", "--batch-mode",
         "--header", str(tmp_path / "header"), "--key-file", "-", str(tmp_path / "disk")],
        input=KEY, capture_output=True, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"this cryptsetup decrypts nothing without device-mapper: {done.stderr!r}")
    assert NOTE in (tmp_path / "disk").read_bytes()


def test_a_mapped_container_opens_with_its_key_alone(container: luks.Container, tmp_path: Path) -> None:
    obstacle = luks.mapping_obstacle(container, KEY)
    if obstacle is not None:
        pytest.skip(f"no mapping here: {obstacle}")
    hold(luks.MappedDisk(container), tmp_path / "disk")
    unmapped = luks.UnmappedDisk(container)
    assert unmapped.read(KEY, len(NOTE)) == NOTE, "mapped or not, it is the same disk"


def test_an_obstacle_to_mapping_is_named(container: luks.Container, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert luks.mapping_obstacle(container, KEY) == "only root may map"


def test_a_file_that_is_no_container_is_an_error(cryptsetup: str, tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(bytes(1 << 20))
    broken = luks.UnmappedDisk(luks.Container(cryptsetup, tmp_path / "disk"))
    with pytest.raises(DiskError, match="not a valid LUKS"):
        broken.read(KEY, 1)


def test_without_cryptsetup_the_disk_is_an_aes_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    made = make_disk(tmp_path / "disk", KEY)
    assert isinstance(made.disk, AesFile)
    assert "not installed" in made.why


def test_where_cryptsetup_fails_the_disk_is_an_aes_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "cryptsetup"
    script.write_text("#!/bin/sh\necho 'no such luck.' >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:/usr/bin:/bin")
    made = make_disk(tmp_path / "disk", KEY)
    assert isinstance(made.disk, AesFile)
    assert "no such luck" in made.why
    hold(made.disk, tmp_path / "disk")


@pytest.mark.usefixtures("cryptsetup")
def test_the_best_disk_says_why_it_is_what_it_is(tmp_path: Path) -> None:
    made = make_disk(tmp_path / "disk", KEY)
    hold(made.disk, tmp_path / "disk")
    if isinstance(made.disk, luks.UnmappedDisk):
        assert "device-mapper does not: " in made.why
    else:
        assert isinstance(made.disk, luks.MappedDisk)


def test_cryptsetup_is_found_beside_the_search_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """cryptsetup is found in /usr/sbin, where Debian has it, even if the search path lacks that folder."""
    (tmp_path / "sbin").mkdir()
    program = tmp_path / "sbin" / "cryptsetup"
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert luks.find_cryptsetup() == str(program)
