"""Single files from Debian packages, which apt fetches into a cache of this user.

    kernels = Archive("bookworm-backports", "ppc64el")
    image = kernels.dependency(kernels.package("linux-image-powerpc64le"), "linux-image-")
    vmlinux, = kernels.files(image, ["boot/vmlinux-*"])

Apt does the work: it checks the archive's signature with the keyring of this machine and each package
against the signed index. Its lists, downloads and sources are in the cache folder. So it needs no root,
changes nothing on the machine, and adds no foreign architecture. The mirror is the one that this machine's
own apt uses.

The cache is `$SWPKS_CACHE`, else `$XDG_CACHE_HOME/swpks`, else `~/.cache/swpks`; files in it are kept by
package, version and `LAYOUT`. Files of an older layout are kept, because an older checkout may use them.
The whole cache can be deleted at any time. A file has the permission bits of its package, with these
exceptions: the owner can always read and write it, and no other user can write it. The bits setuid, setgid
and sticky are never set. The index is fetched again after some hours; without a network the last one is
used. If the index of a suite cannot be fetched, this process does not try again. This is also true for
another `Archive`.
"""

# Why apt does the work here
#
# The tests need single files of Debian: a kernel, a driver's source, busybox.  Four ways were possible:
#
#   - Installing the packages changes the machine and needs root; packages of ppc64el need a foreign
#     architecture.
#   - Files in the repository: the driver and the kernel are GPL-2.0-only, and a kernel has 80 MB.
#   - Addresses with checksums in the code: Debian's kernels get a new name with each update, and old ones
#     vanish.
#   - apt with a private state: it knows the mirrors, checks signatures, and finds the newest version.
#
# The last one is used.  All options of apt that name a folder point into the cache, so apt's own lists and
# lock are not touched.  One lock (`_locked`) serialises the processes of a test run that fetch at the same
# time.
#
# A file is put into its place by the rename of a whole folder.  So a folder that exists is complete, also
# after a process was killed in the middle of an unpacking.

import fcntl
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple
from urllib.parse import unquote

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
NEAREST = 5
"""How many files are named in the advice for a pattern that matches none."""
INDEX_AGE = 6 * 3600
"""Seconds before the index is fetched again."""
PATIENCE = 300
"""Seconds that one command of apt may take."""
LAYOUT = 2
"""The layout of unpacked files; a new number has every file fetched anew. 1: without permission bits."""
PERMISSIONS = 0o755
"""The permission bits that a file keeps: an executable stays one, and only its owner can write it."""


class Unavailable(Exception):
    """The package is not available here; the text has the attempt and the error of apt.

    `advice` is the remedy.  `about` is the wrong argument of tools/debian-file: SUITE, ARCHITECTURE, PACKAGE
    or PATTERN; "" if the arguments may be right.
    """

    def __init__(self, message: str, advice: str = "", about: str = "") -> None:
        super().__init__(message)
        self.advice = advice
        self.about = about


@dataclass(frozen=True)
class Package:
    """A package in an archive's index; its folder in the cache is named by name, version and architecture."""

    name: str
    version: str
    architecture: str
    depends: tuple[str, ...] = ()
    """The names of the packages that it depends on, in order, alternatives after each other."""


def cache_folder() -> Path:
    """Return the folder of the cache; it is made at its first use."""
    own = os.environ.get("SWPKS_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(own) if own else Path(base) / "swpks"


class Member(NamedTuple):
    """A file of a package; the content can be read until the next member is asked for."""

    path: str
    mode: int
    content: IO[bytes] | None
    """None for a link, symbolic or hard: links are not unpacked."""
    target: str
    """The target of a link, as the archive has it."""


class Archive:
    """One suite of Debian's archive for one architecture; the index is fetched at the first call of a method.

    `suite` is a name such as bookworm-backports, `architecture` such as ppc64el; `cache` is for tests. Every
    method raises Unavailable if a package, a file or the index cannot be fetched.
    """

    def __init__(self, suite: str, architecture: str = "amd64", cache: Path | None = None) -> None:
        # Both texts become names of folders.
        _demand_name(suite, "suite", "bookworm or bookworm-backports")
        _demand_name(architecture, "architecture", "ppc64el or amd64")
        self.suite = suite
        self.architecture = architecture
        self._cache = (cache or cache_folder()) / "debian"
        self._state = self._cache / f"{suite}_{architecture}"
        self._fresh = False

    def package(self, name: str) -> Package:
        """Return the newest version of a package in the suite."""
        _demand_name(name, "package", "busybox-static")
        stanza = self._stanzas(name).split("\n\n")[0]
        fields = dict(re.findall(r"^([\w-]+): (.*)$", stanza, re.MULTILINE))
        if fields.get("Package") != name:
            raise self._no_package(name)
        depends = re.findall(r"(?:^|[,|]\s*)([\w.+-]+)", fields.get("Depends", ""))
        return Package(name, fields["Version"], fields["Architecture"], tuple(depends))

    def _stanzas(self, name: str) -> str:
        """Return apt's record of a package."""
        try:
            return self._apt("apt-cache", "show", "--no-all-versions", "--", name)
        except Unavailable as error:
            if "No packages found" in str(error):
                raise self._no_package(name) from None
            raise

    def _no_package(self, name: str) -> Unavailable:
        """Return the error for an unknown package, or for an architecture that the suite does not have."""
        lists = self._state / "lists"
        if any(lists.glob("*Release")) and not any(lists.glob("*_Packages*")):
            finding = f"{self.suite} has no packages for {self.architecture}"
            return Unavailable(finding, "give an architecture of Debian, such as ppc64el", "ARCHITECTURE")
        advice = "give the name of a binary package of this suite, as `apt-cache search` lists it"
        return Unavailable(f"{self.suite} has no package {name} for {self.architecture}", advice, "PACKAGE")

    def dependency(self, package: Package, prefix: str) -> Package:
        """Return the dependency of `package` whose name begins with `prefix`.

        For a meta-package of kernels, this is the kernel.
        """
        for name in package.depends:
            if prefix and name.startswith(prefix) and name != package.name:
                return self.package(name)
        finding = f"{package.name} {package.version} depends on nothing called {prefix}..."
        names = ", ".join(package.depends) or "none"
        raise Unavailable(finding, f"its dependencies: {names}", "PACKAGE")

    def files(self, package: Package, wanted: Sequence[str], inside: str | None = None) -> list[Path]:
        """Unpack and return the first file that each pattern of `wanted` matches, in their order.

        Patterns are those of the shell, for a whole path without leading slash. If `inside` is given, the
        package has one tar archive with a matching path, and the patterns are for paths in it. Links are
        skipped; if only links match, Unavailable names them.
        """
        key = sha256(repr((LAYOUT, *wanted, inside)).encode()).hexdigest()[:12]
        folder = self._cache / "files" / f"{package.name}_{package.version}_{package.architecture}_{key}"
        with _locked(self._cache):
            if not folder.is_dir():
                self._unpack(package, wanted, inside, folder)
        return [folder / path for path in (folder / "contents").read_text("utf-8").splitlines()]

    def _unpack(self, package: Package, wanted: Sequence[str], inside: str | None, folder: Path) -> None:
        """Download the package, extract the files, and move the complete folder to its place."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as work:
            asked = f"{package.name}:{package.architecture}={package.version}"
            self._download(asked.replace(":all=", "="), work)
            (deb,) = Path(work).glob("*.deb")
            out = Path(work, "out")
            found = _extract(deb, wanted, inside, out)
            Path(out, "contents").write_text("\n".join(found), "utf-8")
            out.rename(folder)

    def _download(self, asked: str, folder: str) -> None:
        """Let apt download a package.

        If that fails, the index may be too old: the next call fetches a new one.
        """
        try:
            self._apt("apt-get", "download", "--", asked, cwd=folder)
        except Unavailable:
            (self._state / "asked").unlink(missing_ok=True)
            raise

    def _apt(self, *command: str, cwd: str | None = None) -> str:
        with _locked(self._cache):
            if not self._fresh:
                self._refresh()
            return self._run(*command, cwd=cwd)

    def _refresh(self) -> None:
        """Fetch the index if it is missing or too old; if the fetch fails, keep an old index."""
        stamp = self._state / "asked"
        if not stamp.exists() or time.time() - stamp.stat().st_mtime > INDEX_AGE:
            if self._state not in _FAILED:
                self._try_update(stamp)
            if not stamp.exists():
                failed = _FAILED[self._state]
                raise Unavailable(str(failed), failed.advice, failed.about)
        self._fresh = True

    def _try_update(self, stamp: Path) -> None:
        """Update the index; store a failure, so that this process does not wait for it again."""
        try:
            self._update()
        except Unavailable as error:
            _FAILED[self._state] = error
        else:
            stamp.touch()

    def _update(self) -> None:
        """Fetch the index from the first of the machine's mirrors that has the suite, signed by Debian."""
        for folder in ("lists/partial", "cache/archives/partial"):
            (self._state / folder).mkdir(parents=True, exist_ok=True)
        (self._state / "status").touch()
        failures = []
        for mirror in self._mirrors():
            source = f"deb [signed-by={KEYRING}] {mirror} {self.suite} main\n"
            (self._state / "sources.list").write_text(source, "utf-8")
            try:
                self._run("apt-get", "update", "--error-on=any")
            except Unavailable as error:
                failures.append(str(error))
            else:
                return
        if failures and all("does not have a Release file" in failure for failure in failures):
            advice = "give a suite of Debian, such as bookworm or bookworm-backports"
            raise Unavailable("\n".join(failures), advice, "SUITE")
        advice = "see to it that `apt-get update` works on this machine"
        raise Unavailable("\n".join(failures) or "this machine's apt has no mirror of Debian", advice)

    def _mirrors(self) -> list[str]:
        """Return the mirrors of the machine's own apt, those of Debian first."""
        template = "$(LABEL) $(COMPONENT) $(REPO_URI)"
        command = ["apt-get", "indextargets", "--format", template, "Created-By: Packages"]
        lines = _output(command, "the mirrors of this machine's apt").splitlines()
        likely = sorted(lines, key=lambda line: not line.startswith("Debian main "))
        return list(dict.fromkeys(line.split()[-1] for line in likely if " main " in line))

    def _run(self, program: str, *arguments: str, cwd: str | None = None) -> str:
        """Run a program of apt with its lists, sources and downloads in the cache."""
        state = self._state
        settings = {
            "APT::Architecture": self.architecture,
            "APT::Architectures": self.architecture,
            "APT::Sandbox::User": "",
            "Acquire::Languages": "none",
            "Dir::Cache": state / "cache",
            "Dir::Cache::pkgcache": "pkgcache.bin",  # saves seconds; some container images have none
            "Dir::Etc::sourcelist": state / "sources.list",
            "Dir::Etc::sourceparts": "-",
            "Dir::State": state,
            "Dir::State::status": state / "status",
        }
        options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
        asked = " ".join([program, *(word for word in arguments if not word.startswith("-"))])
        return _output([program, "-q", *options, *arguments], f"{self.suite}: {asked}", cwd)


def _output(command: Sequence[str], asked: str, cwd: str | None = None) -> str:
    """Return the output of a command; Unavailable if the command fails.

    `asked` names the purpose of the command, for the message of Unavailable.
    """
    try:
        done = subprocess.run(
            command, cwd=cwd, check=True, capture_output=True, text=True, timeout=PATIENCE,
            stdin=subprocess.DEVNULL, env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
    except FileNotFoundError:
        raise Unavailable(f"{command[0]} is not installed: this is not a Debian machine") from None
    except subprocess.CalledProcessError as error:
        raise Unavailable(f"{asked}: {error.stderr.strip()}") from None
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{asked} took longer than {PATIENCE} s") from None
    return done.stdout


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock the cache against other processes; a process that has the lock may lock it again."""
    if folder in _HELD:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with Path(folder, "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _HELD.add(folder)
        try:
            yield
        finally:
            _HELD.discard(folder)


_HELD: set[Path] = set()
_FAILED: dict[Path, Unavailable] = {}
"""The failures of index downloads by folder: a process does not repeat one that has failed."""


def _extract(deb: Path, wanted: Sequence[str], inside: str | None, out: Path) -> list[str]:
    """Write the wanted files under `out` and return their paths; reading stops once all are found."""
    command = ["dpkg-deb", "--fsys-tarfile", str(deb)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as unpacker:
        assert unpacker.stdout is not None
        try:
            with tarfile.open(fileobj=unpacker.stdout, mode="r|") as tar:
                return _take(_inner(tar, inside) if inside else _members(tar), wanted, out, unquote(deb.name))
        finally:
            unpacker.kill()  # it may wait for a reader of the rest of the archive


def _members(tar: tarfile.TarFile) -> Iterator[Member]:
    """Yield each plain file and each link of an archive, in its order."""
    for member in tar:
        if member.isfile() or member.issym() or member.islnk():
            content = tar.extractfile(member) if member.isfile() else None
            yield Member(member.name.removeprefix("./"), member.mode, content, member.linkname)


def _inner(tar: tarfile.TarFile, inside: str) -> Iterator[Member]:
    for member in _members(tar):
        if member.content is not None and fnmatchcase(member.path, inside):
            with tarfile.open(fileobj=member.content, mode="r|*") as inner:
                yield from _members(inner)
            return


def _take(members: Iterable[Member], wanted: Sequence[str], out: Path, source: str) -> list[str]:
    """Write the first file that each pattern matches; a file that two patterns match is written once."""
    found: dict[str, str] = {}
    links: dict[str, Member] = {}
    seen: list[str] = []
    for member in members:
        seen.append(member.path)
        new = [pattern for pattern in wanted if pattern not in found and fnmatchcase(member.path, pattern)]
        if member.content is None:
            links.update(dict.fromkeys(new, member))
        elif new:
            _write(_within(out, member.path, source), member.content, member.mode)
            found.update(dict.fromkeys(new, member.path))
        if len(found) == len(set(wanted)):
            return [found[pattern] for pattern in wanted]
    missing = [_missing(pattern, links.get(pattern)) for pattern in wanted if pattern not in found]
    finding = f"{source} holds no {' and no '.join(missing)}"
    raise Unavailable(finding, _advice([each for each in wanted if each not in found], seen), "PATTERN")


def _advice(missing: Sequence[str], seen: Sequence[str]) -> str:
    """Return advice for patterns without a match: files with the same last name, or a pattern's form."""
    names = [PurePosixPath(pattern).name for pattern in missing]
    near = [path for path in seen if any(fnmatchcase(PurePosixPath(path).name, name) for name in names)]
    if near:
        return f"it holds {', '.join(near[:NEAREST])}"
    return "give a pattern for the whole path, without a leading slash"


def _demand_name(text: str, kind: str, example: str) -> None:
    """Raise Unavailable for a text that can't be Debian's name of a suite, an architecture or a package."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9+.-]*", text):
        raise Unavailable(f"{text!r} names no {kind} of Debian", f"give one such as {example}", kind.upper())


def _write(target: Path, content: IO[bytes], mode: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        shutil.copyfileobj(content, file)
    target.chmod(mode & PERMISSIONS | 0o600)


def _missing(pattern: str, link: Member | None) -> str:
    return f"{pattern} that is a file: {link.path} is a link to {link.target}" if link else pattern


def _within(out: Path, path: str, source: str) -> Path:
    """Return the path of an unpacked file; Unavailable for a path that may lead out of the folder."""
    if ".." in Path(path).parts or not (out / path).is_relative_to(out):
        raise Unavailable(f"{source} holds {path!r}, which leads out of its folder")
    return out / path
