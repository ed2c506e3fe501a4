"""The five-minute recipe of docs/kernel.md: its commands are read from the page and run unchanged."""

import gzip
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.debian.reporting import needed, reported
from tests.pages.ends import repository
from tests.pages.page_blocks import PageBlocks
from tests.pages.sessions import not_on_screen, on_terminal, screen
from tests.qemu.guest import PATIENCE, backports_kernel, busybox, need_qemu
from tests.spec.markdown import ROOT, Session, session

APT = """#!/bin/sh
for last; do :; done
name=${last%%:*}
case " $* " in
  *" indextargets "*) echo "Debian main http://mirror.example/debian" ;;
  *" show "*) dpkg-deb -f "$DEBS/$name.deb" ;;
  *" download "*) cp "$DEBS/$name.deb" . ;;
esac
"""
"""An apt that finds its packages in a folder; it replaces apt-get and apt-cache."""


@pytest.fixture
def recipe() -> Session:
    """The commands that the page shows, and their output."""
    found = session(ROOT / "docs" / "kernel.md", "Five minutes: a stock kernel")
    head = session(ROOT / "docs" / "kernel.md", "What you need").commands
    return found._replace(commands=[*head, *found.commands])


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the repository's tools, as the page expects it.

    Its path is short, because sockets need that.
    """
    needed("cpio", shutil.which("cpio"))
    return repository(tmp_path_factory.mktemp("k") / "r")


def make_package(debs: Path, name: str, path: str, mode: int, depends: str = "") -> None:
    """Build a package with one file; the file contains its own name."""
    root = debs / name
    root.joinpath("DEBIAN").mkdir(parents=True)
    root.joinpath("DEBIAN/control").write_text(
        f"Package: {name}\nVersion: 1\nArchitecture: ppc64el\nMaintainer: nobody <n@example.org>\n"
        + (f"Depends: {depends}\n" if depends else "")
        + "Description: d\n"
    )
    root.joinpath(path).parent.mkdir(parents=True)
    root.joinpath(path).write_text(name)
    root.joinpath(path).chmod(mode)
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", root, debs], check=True, capture_output=True)
    next(debs.glob(f"{name}_*.deb")).rename(debs / f"{name}.deb")


@pytest.fixture
def offline(tmp_path: Path) -> dict[str, str]:
    """An environment whose apt offers packages with the recipe's names, and whose cache is empty."""
    needed("dpkg-deb", shutil.which("dpkg-deb"))
    debs, programs = tmp_path / "debs", tmp_path / "programs"
    make_package(debs, "busybox-static", "bin/busybox", 0o755)
    make_package(debs, "linux-image-powerpc64le", "usr/share/doc/readme", 0o644, "linux-image-9")
    make_package(debs, "linux-image-9", "boot/vmlinux-9", 0o644)
    programs.mkdir()
    for name in ("apt-get", "apt-cache"):
        programs.joinpath(name).write_text(APT)
        programs.joinpath(name).chmod(0o755)
    path = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "DEBS": str(debs), "SWPKS_CACHE": str(tmp_path / "cache")}


PROMPT = b"/ # "
INTERRUPTED = "/ # echo begun; sleep 1000\nbegun\n^C\n"
"""The terminal of a command that Ctrl-C has interrupted."""
CTRL_C = [(PROMPT, b"echo begun; sleep 1000\n"), (b"\nbegun", b"\x03")]
"""How it is typed: each text after the one that is awaited."""


def shell(
    commands: list[str], folder: Path, environment: dict[str, str], typed: Sequence[tuple[bytes, bytes]] = ()
) -> str:
    """Run commands as one script in a folder, until one fails. Return their output.

    `typed` has pairs: when the first text has been printed, the second one is typed.

    The page makes its own folder below `folder`.

    timeout(1) also ends the machine: it signals all processes that the script has started.
    """
    with subprocess.Popen(
        ["timeout", "--kill-after=10", str(PATIENCE), "bash", "-euo", "pipefail", "-c", "\n".join(commands)],
        cwd=folder, env={**environment, "TMPDIR": str(folder)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0,
    ) as process:  # fmt: skip
        assert process.stdin
        assert process.stdout
        printed, begin = b"", 0
        for awaited, text in typed:
            while awaited not in printed[begin:] and (piece := process.stdout.read(65536)):
                printed += piece
            begin = len(printed)
            process.stdin.write(text)
        printed += process.communicate()[0]
    told = printed.decode(errors="replace")
    assert process.returncode == 0, told[-4000:]
    return told


def test_the_recipe_packs_an_initramfs_that_starts(
    recipe: Session, folder: Path, offline: dict[str, str], tmp_path: Path
) -> None:
    """All commands before the boot work. The initramfs has an init that can run, and a shell for it."""
    *prepare, boot = recipe.commands
    assert boot.startswith("swpks qemu ")
    kernel, place = shell([*prepare, 'echo "$kernel"; pwd'], folder, offline).splitlines()
    assert Path(kernel).read_text() == "linux-image-9"
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    archive = gzip.decompress(Path(place, "initrd.gz").read_bytes())
    subprocess.run(["cpio", "-id", "--quiet"], cwd=unpacked, input=archive, check=True)
    init = unpacked / "init"
    interpreter = unpacked / init.read_text().split()[0].removeprefix("#!/")
    assert interpreter.read_text() == "busybox-static"
    assert os.access(init, os.X_OK)
    assert os.access(interpreter, os.X_OK), "the kernel panics: it can't run the shell of init"


@pytest.mark.slow
@pytest.mark.process
def test_the_recipe_boots_and_prints_what_the_page_shows(page_blocks: PageBlocks, folder: Path) -> None:
    """R-73: with Debian's packages, the commands of the page print all that the page shows, in its order."""
    recipe = page_blocks.session()
    head = session(ROOT / "docs" / "kernel.md", "What you need").commands
    with reported():
        busybox()
        need_qemu(backports_kernel())
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {name: value for name, value in os.environ.items() if name != "SWPKS_STATE"}
    *first, last = [(PROMPT, f"{command}\n".encode()) for command in recipe.guest]
    typed = [*first, *CTRL_C, last]
    printed = on_terminal(shell([*head, *recipe.commands], folder, {**environment, "PATH": path}, typed))
    assert INTERRUPTED in printed, "Ctrl-C has to interrupt a command of the guest, and the shell goes on"
    printed = printed.replace(INTERRUPTED, "")
    assert len(recipe.output) > 4
    missing = not_on_screen(screen(ROOT / "docs" / "kernel.md", "Five minutes: a stock kernel"), printed)
    assert not missing, f"{missing!r} is not printed, or not in this place:\n{printed[-4000:]}"
