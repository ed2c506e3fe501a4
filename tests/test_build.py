"""Distributions are reproducible: the same sources give the same bytes, in any folder and at any time."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

BUILD = """
import os, sys
ordered = os.scandir
class Backwards:  # a file system may list a folder in any order
    def __init__(self, folder):
        with ordered(folder) as entries:
            self.entries = iter(sorted(entries, key=lambda entry: entry.name, reverse=True))
    def __enter__(self): return self
    def __exit__(self, *of): pass
    def __iter__(self): return self.entries
    def __next__(self): return next(self.entries)
if sys.argv[2] == "backwards":
    os.scandir = lambda folder=".": Backwards(folder)
os.umask(int(sys.argv[3], 8))
from hatchling.build import build_sdist, build_wheel
build_sdist(sys.argv[1])
build_wheel(sys.argv[1])
"""
"""Calls the build backend like pip: in a process of its own, without a network."""


def build(source: Path, out: Path, order: str, umask: str, **more: str) -> dict[str, bytes]:
    """Build source distribution and wheel from a folder; return their bytes by name."""
    out.mkdir()
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", **more}
    command = [sys.executable, "-c", BUILD, str(out), order, umask]
    subprocess.run(command, cwd=source, env=environment, check=True, timeout=60)
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


def unpacked(distribution: Path, to: Path) -> Path:
    """Unpack a source distribution with other times and modes, and add files as earlier work leaves them."""
    with tarfile.open(distribution) as archive:
        archive.extractall(to, filter="data")
    (source,) = to.iterdir()
    for path in source.rglob("*"):
        if path.is_file():
            path.chmod(0o700 if path.stat().st_mode & 0o100 else 0o600)
    for remains in (
        "swpks/__pycache__/x.cpython-311.pyc",
        "bench/out/plot.png",
        "state/card",
        ".venv/pyvenv.cfg",
    ):
        path = source / remains
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"remains")
    return source


Built = tuple[Path, dict[str, bytes], dict[str, bytes]]


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Two builds: from this folder, and from its source distribution in another folder at another time."""
    folder = tmp_path_factory.mktemp("builds")
    first = build(ROOT, folder / "first", "as it is", "022")
    (distribution,) = (folder / "first").glob("*.tar.gz")
    source = unpacked(distribution, folder / "another folder, with a longer name")
    zone = {"TZ": "Pacific/Kiritimati", "PYTHONHASHSEED": "7", "HOME": str(folder)}
    return folder / "first", first, build(source, folder / "second", "backwards", "077", **zone)


def members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the bytes of each file in a distribution."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            yield from ((name, wheel.read(name)) for name in wheel.namelist())
        return
    with tarfile.open(path) as archive:
        for member in archive:
            content = archive.extractfile(member)
            yield member.name, content.read() if content else b""


def test_two_builds_give_the_same_bytes(builds: Built) -> None:
    """The bytes do not depend on the folder, time, time zone, modes, order, or files of earlier work."""
    _, first, second = builds
    assert [name.rpartition("-")[2] for name in first] == ["any.whl", "0.1.0.tar.gz"]
    assert first.keys() == second.keys()
    assert {name for name in first if first[name] != second[name]} == set()


def test_no_distribution_names_the_folder_of_its_build(builds: Built) -> None:
    """No file in a distribution contains a path of the machine. Each file is one that git tracks."""
    folder, _, _ = builds
    for path in folder.iterdir():
        names = []
        for name, content in members(path):
            names.append(name)
            assert str(ROOT).encode() not in content, name
        assert [
            name for name in names if "__pycache__" in name or "/.venv" in name or "/bench/out" in name
        ] == []
        assert len(names) == len(set(names)) > 100
