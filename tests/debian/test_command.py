"""tools/debian-file: an error names the wrong argument and the remedy, without a traceback."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.debian.reporting import needed
from tests.spec.markdown import ROOT

COMMAND = ROOT / "tools" / "debian-file"
GOOD = ("sid", "ppc64el", "meta", "boot/vmlinux-*")
APT = """#!/bin/sh
for word; do case $word in Dir::State=*) state=${word#*=};; esac; done
case " $* " in
  *" indextargets "*) echo "Debian main http://mirror.example/debian" ;;
  *" update "*)
    case $state in
      */no-suite_*) echo "E: The repository 'no-suite Release' does not have a Release file." >&2; exit 100 ;;
      */down_*) printf 'E: Failed to fetch x\\nE: Some files failed\\n' >&2; exit 100 ;;
    esac
    mkdir -p "$state/lists"
    touch "$state/lists/mirror_InRelease"
    case $state in *_no-machine) ;; *) touch "$state/lists/mirror_main_Packages" ;; esac ;;
  *" show "*" meta "*)
    printf 'Package: meta\\nVersion: 1\\nArchitecture: ppc64el\\nDepends: linux-image-9, other\\n' ;;
  *" show "*) echo "E: No packages found" >&2; exit 100 ;;
  *" download "*) cp "$DEB" . ;;
esac
"""
"""An apt with one package; some names of suites and architectures make it fail."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment with the fake apt, an empty cache and the package."""
    folder = tmp_path_factory.mktemp("debian-file")
    for name in ("apt-get", "apt-cache"):
        (folder / name).write_text(APT)
        (folder / name).chmod(0o755)
    root = folder / "meta"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN" / "control").write_text(
        "Package: meta\nVersion: 1\nArchitecture: ppc64el\nMaintainer: n <n@example.org>\nDescription: d\n"
    )
    (root / "bin").mkdir()
    (root / "bin" / "tool").write_text("tool")
    build = [
        needed("dpkg-deb", "/usr/bin/dpkg-deb"),
        "--root-owner-group",
        "-b",
        str(root),
        str(folder / "meta_1.deb"),
    ]
    subprocess.run(build, check=True, capture_output=True)
    return {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "SWPKS_CACHE": str(folder / "cache"),
        "DEB": str(folder / "meta_1.deb"),
    }


class Run(NamedTuple):
    """The exit status of a command, and its output."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def run(
    world: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Run]:
    """Run the command in this process. That is faster than a new Python for each case."""

    def done(*arguments: str, **other: str) -> Run:
        for name, value in {**world, **other}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", [str(COMMAND), *arguments])
        monkeypatch.setattr(sys, "path", list(sys.path))
        try:
            runpy.run_path(str(COMMAND), run_name="__main__")
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        return Run(status, *capsys.readouterr())

    return done


@pytest.mark.parametrize(
    "arguments,says",
    [
        ((), "SUITE is missing; for the usage: "),
        (GOOD[:2], "PACKAGE[/DEPENDENCY...] is missing; "),
        ((*GOOD, "boot/b", "boot/c"), "PATTERN is followed by boot/b boot/c; put the pattern in quotes"),
        (("../x", *GOOD[1:]), "SUITE: '../x' names no suite of Debian; give one such as bookworm"),
        (("sid", "../../x", *GOOD[2:]), "ARCHITECTURE: '../../x' names no architecture of Debian; give"),
        (("sid", "ppc64el", "", "x"), "PACKAGE: '' names no package of Debian; give one such as busybox"),
        (("no-suite", *GOOD[1:]), "SUITE: no-suite: apt-get update: E: The repository 'no-suite Release'"),
        (("sid", "no-machine", "x", "x"), "ARCHITECTURE: sid has no packages for no-machine; give an"),
        (("sid", "ppc64el", "mata", "x"), "PACKAGE: sid has no package mata for ppc64el; give the name of a"),
        (
            ("sid", "ppc64el", "meta/image", "x"),
            "PACKAGE: meta 1 depends on nothing called image...; its dep",
        ),
        (("sid", "ppc64el", "meta/", "x"), "its dependencies: linux-image-9, other"),
        (GOOD, "; a dependency may hold it: meta/linux-image-9"),
        ((*GOOD[:3], "/bin/tool"), "PATTERN: meta_1.deb holds no /bin/tool; it holds bin/tool"),
        ((*GOOD[:3], "sbin/t*"), "PATTERN: meta_1.deb holds no sbin/t*; it holds bin/tool"),
        ((*GOOD[:3], "other"), "holds no other; give a pattern for the whole path, without a leading slash"),
    ],
)
def test_a_wrong_argument_is_named(run: Callable[..., Run], arguments: tuple[str, ...], says: str) -> None:
    """For a wrong argument the command prints one line, and has the status of a wrong command line."""
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("debian-file: ")
    assert done.stderr.count("\n") == 1
    assert says in done.stderr


def test_a_path_is_printed(run: Callable[..., Run]) -> None:
    """The command prints the path of the file. --help is no error."""
    done = run(*GOOD[:3], "bin/tool")
    assert (done.returncode, done.stderr) == (0, "")
    assert Path(done.stdout.strip()).read_text() == "tool"
    assert "Usage: tools/debian-file SUITE" in run("--help").stdout
    command = [sys.executable, str(COMMAND), "sid"]
    alone = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (alone.returncode, alone.stderr.partition(";")[0]) == (2, "debian-file: ARCHITECTURE is missing")


def test_a_failure_of_the_machine_is_another_status(run: Callable[..., Run], tmp_path: Path) -> None:
    """An error of the mirror or the cache gives another exit status than a wrong argument."""
    down = run("down", *GOOD[1:])
    assert down.returncode == 1
    assert "E: Failed to fetch x; E: Some files failed; see to it that `apt-get update` works" in down.stderr
    (tmp_path / "file").touch()
    cache = run(*GOOD, SWPKS_CACHE=str(tmp_path / "file"))
    assert cache.returncode == 1
    assert (
        f"the cache can't be used: {tmp_path}/file/debian: Not a directory; set SWPKS_CACHE" in cache.stderr
    )
