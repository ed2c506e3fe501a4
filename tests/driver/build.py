"""Builds Linux's keystore driver as a shared library, once for each kernel whose source Debian has.

The driver is GPL-2.0-only. It and the library built from it stay in the user's cache; neither enters the
repository. The driver is not changed: `shim/` has the parts of a kernel that it needs.
"""

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

from tools.debian_archive import Archive, Unavailable, cache_folder

SHIM = Path(__file__).with_name("shim")
FOLDER = "arch/powerpc/platforms/pseries"
DRIVER = f"{FOLDER}/plpks.c"
DRIVES = f"{FOLDER}/plpks_sed_ops.c"
"""The driver's functions for the keys of self-encrypting drives; since 6.7."""
HEADERS = "arch/powerpc/include"
FLAGS = (
    "-std=gnu11", "-O1", "-g", "-fPIC", "-shared", "-D__KERNEL__", "-DCONFIG_PSERIES_PLPKS",
    "-Wall", "-Werror",
    "-Wno-int-conversion",  # the driver passes a null pointer in a register
    "-Wno-pointer-sign", "-Wno-unused",
)  # fmt: skip


@dataclass(frozen=True)
class Build:
    """A driver that can be loaded: the version of its kernel, and its library."""

    kernel: tuple[int, int]
    package: str
    library: Path

    @property
    def of_2022(self) -> bool:
        """Whether this is the first merged driver: it has no signed updates, no kexec, and its own quirks."""
        return self.kernel < (6, 3)


def has_drives(kernel: tuple[int, int]) -> bool:
    """Return whether a kernel has the source file for self-encrypting drives."""
    return kernel >= (6, 7)


@cache
def driver_of(suite: str) -> Build:
    """Return the driver of the newest kernel in a suite of Debian; Unavailable if it can't be fetched."""
    archive = Archive(suite)
    source = archive.dependency(archive.package("linux-source"), "linux-source-")
    major, minor = source.name.removeprefix("linux-source-").split(".")
    kernel = int(major), int(minor)
    wanted = [f"*/{DRIVER}", f"*/{HEADERS}/asm/plpks.h", f"*/{HEADERS}/asm/hvcall.h"]
    if has_drives(kernel):
        wanted.append(f"*/{DRIVES}")
    driver, _, _, *drives = archive.files(source, wanted, inside="usr/src/linux-source-*.tar.*")
    return Build(kernel, f"{source.name} {source.version}", _compiled([driver, *drives]))


def _compiled(sources: list[Path]) -> Path:
    """Return the library of the driver and of the files that use it.

    It is compiled only if a source has changed.
    """
    tree = Path(str(sources[0]).removesuffix(DRIVER))
    key = sha256(repr(FLAGS).encode())
    for part in (*sources, *sorted(path for path in SHIM.rglob("*") if path.is_file())):
        key.update(part.read_bytes())
    library = cache_folder() / "driver" / f"{tree.name}-{key.hexdigest()[:16]}.so"
    if not library.exists():
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent) as work:
            _empty_headers([*sources, *(tree / HEADERS).rglob("*.h")], tree, Path(work, "empty"))
            _compile(sources, tree, Path(work, "empty"), Path(work, library.name))
            Path(work, library.name).rename(library)
    return library


def _empty_headers(sources: list[Path], tree: Path, folder: Path) -> None:
    """Make an empty file for each header that the sources name and that no folder has."""
    for source in sources:
        for name in re.findall(r"^#include <(.+)>", source.read_text("utf-8"), re.MULTILINE):
            if not (SHIM / name).exists() and not (tree / HEADERS / name).exists():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).touch()


def _compile(sources: list[Path], tree: Path, empty: Path, library: Path) -> None:
    if shutil.which("gcc") is None or not Path("/usr/include/libfdt.h").exists():
        raise Unavailable(
            "the driver needs gcc and libfdt's header: apt-get install gcc libc6-dev libfdt-dev"
        )
    folders = [f"-I{folder}" for folder in (SHIM, tree / HEADERS, empty)]
    command = [
        "gcc", *FLAGS, "-include", str(SHIM / "kernel.h"), *folders,
        *map(str, sources), str(SHIM / "shim.c"), "-lfdt", "-o", str(library),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"{tree.name}'s driver does not compile against our shim:\n{done.stderr}")
