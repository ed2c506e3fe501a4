"""Files from Debian packages, with a fake apt: its commands, and the files that are stored or refused."""

import os
import stat
import subprocess
import tarfile
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import pytest

from tests.debian.reporting import needed, reported
from tools.debian_archive import Archive, Member, Package, Unavailable, _take

SHOWN = """Package: linux-image-powerpc64le
Version: 6.12.95-1
Architecture: ppc64el
Depends: linux-base (>= 4), linux-image-6.12.95-powerpc64le (= 6.12.95-1) | linux-image-spare
Description: not a package: what follows

Package: linux-image-powerpc64le
Version: 6.1.1-1
"""
SOURCE = Package("linux-source-9", "9.1", "all")


class PlayedApt(Archive):
    """A fake archive and its apt. `asked` has the commands; with `down` the network fails."""

    def __init__(self, cache: Path, *, shown: str = SHOWN, deb: Path | None = None) -> None:
        super().__init__("sid", "ppc64el", cache)
        self.asked: list[str] = []
        self.down = False
        self._shown = shown
        self._deb = deb

    def _mirrors(self) -> list[str]:
        return ["http://mirror.example/debian"]

    def _run(self, program: str, *arguments: str, cwd: str | None = None) -> str:
        self.asked.append(" ".join([program, *arguments]))
        if self.down and program == "apt-get":
            raise Unavailable("no network")
        if arguments[0] == "download" and cwd and self._deb:
            Path(cwd, "it.deb").write_bytes(self._deb.read_bytes())
        return self._shown


@pytest.fixture
def deb(tmp_path: Path) -> Path:
    """A package with a kernel, a program, links of each kind, and a source archive."""
    inner = BytesIO()
    with tarfile.open(fileobj=inner, mode="w:xz") as tar:
        for name in ("linux-9/a/plpks.c", "linux-9/b/plpks.h", "linux-9/c/other.c", "linux-9/run.sh"):
            info = tarfile.TarInfo(name)
            info.mode = 0o775 if name.endswith(".sh") else 0o664
            info.size = len(name)
            tar.addfile(info, BytesIO(name.encode()))
    root = tmp_path / "root"
    for path, content in {
        "boot/vmlinux-9": b"kernel",
        "bin/busybox": b"program",
        "bin/su": b"program",
        "bin/perl": b"program",
        "usr/src/linux-9.tar.xz": inner.getvalue(),
        "DEBIAN/control": b"Package: p\nVersion: 1\nArchitecture: all\nMaintainer: nobody <n@example.org>\n"
        b"Description: d\n",
    }.items():
        root.joinpath(path).parent.mkdir(parents=True, exist_ok=True)
        root.joinpath(path).write_bytes(content)
    for path, mode in {"boot/vmlinux-9": 0o600, "bin/busybox": 0o755, "bin/su": 0o6777}.items():
        root.joinpath(path).chmod(mode)
    root.joinpath("boot/vmlinux").symlink_to("vmlinux-9")
    root.joinpath("bin/perl5").hardlink_to(root / "bin/perl")
    built = tmp_path / "p.deb"
    with reported():
        if not Path("/usr/bin/dpkg-deb").exists():
            raise Unavailable("dpkg-deb is not installed: this is not a Debian machine")
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", root, built], check=True, capture_output=True)
    return built


def test_newest_version_and_what_it_depends_on(tmp_path: Path) -> None:
    archive = PlayedApt(tmp_path)
    meta = archive.package("linux-image-powerpc64le")
    assert (meta.version, meta.architecture) == ("6.12.95-1", "ppc64el")
    assert meta.depends == ("linux-base", "linux-image-6.12.95-powerpc64le", "linux-image-spare")
    with pytest.raises(Unavailable, match="depends on nothing called busybox"):
        archive.dependency(meta, "busybox")
    with pytest.raises(Unavailable, match=r"no package linux-image-6\.12\.95"):
        archive.dependency(meta, "linux-image-")


def test_files_come_in_the_order_asked_for_and_are_kept(tmp_path: Path, deb: Path) -> None:
    archive = PlayedApt(tmp_path / "cache", deb=deb)
    wanted = ["*/plpks.h", "*/plpks.c"]
    header, source = archive.files(SOURCE, wanted, inside="usr/src/linux-*.tar.xz")
    assert header.read_text() == "linux-9/b/plpks.h"
    assert source.read_text() == "linux-9/a/plpks.c"
    assert archive.asked[-1] == "apt-get download -- linux-source-9=9.1"
    asked = len(archive.asked)
    assert archive.files(SOURCE, wanted, inside="usr/src/linux-*.tar.xz") == [header, source]
    assert len(archive.asked) == asked


def test_file_of_the_package_itself(tmp_path: Path, deb: Path) -> None:
    (kernel,) = PlayedApt(tmp_path / "cache", deb=deb).files(SOURCE, ["boot/vmlinux*"])
    assert kernel.read_bytes() == b"kernel"


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_files_keep_the_permission_bits_that_are_safe_to_keep(tmp_path: Path, deb: Path) -> None:
    """A program stays executable in the cache, whatever the umask is. setuid and setgid are removed."""
    archive = PlayedApt(tmp_path / "cache", deb=deb)
    before = os.umask(0o077)
    try:
        busybox, su, kernel = archive.files(SOURCE, ["bin/busybox", "bin/su", "boot/vmlinux-*"])
        script, source = archive.files(SOURCE, ["*.sh", "*/plpks.c"], inside="usr/src/linux-*.tar.xz")
    finally:
        os.umask(before)
    assert [mode_of(path) for path in (busybox, su, kernel)] == [0o755, 0o755, 0o600]
    assert [mode_of(path) for path in (script, source)] == [0o755, 0o644]


def test_a_cache_of_an_older_layout_is_not_used(tmp_path: Path, deb: Path) -> None:
    """Files in a cache of an older layout, without permission bits, are fetched again and not changed."""
    key = sha256(repr(("bin/busybox", None)).encode()).hexdigest()[:12]
    old = tmp_path / "cache/debian/files" / f"linux-source-9_9.1_all_{key}" / "bin/busybox"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"program")
    old.parent.with_name("contents").write_text("bin/busybox")
    (busybox,) = PlayedApt(tmp_path / "cache", deb=deb).files(SOURCE, ["bin/busybox"])
    assert (busybox.read_bytes(), mode_of(busybox)) == (b"program", 0o755)
    assert mode_of(old) & 0o111 == 0


def test_a_link_is_no_file_and_is_named(tmp_path: Path, deb: Path) -> None:
    """If a path is a link, the error names the link and its target.

    The target may be in another package, so the caller must ask for it.
    """
    archive = PlayedApt(tmp_path / "cache", deb=deb)
    with pytest.raises(Unavailable, match=r"no boot/vmlinux that is a file: .* is a link to vmlinux-9$"):
        archive.files(SOURCE, ["boot/vmlinux"])
    with pytest.raises(Unavailable, match=r"that is a file: bin/perl5? is a link to \S*bin/perl5?$"):
        archive.files(SOURCE, ["bin/perl", "bin/perl5"])


def test_a_file_that_two_patterns_match_is_whole(tmp_path: Path, deb: Path) -> None:
    first, second = PlayedApt(tmp_path / "cache", deb=deb).files(SOURCE, ["boot/*", "*/vmlinux-9"])
    assert first == second
    assert first.read_bytes() == b"kernel"


def test_missing_file_is_named_and_nothing_is_kept(tmp_path: Path, deb: Path) -> None:
    archive = PlayedApt(tmp_path / "cache", deb=deb)
    for _ in range(2):
        with pytest.raises(Unavailable, match=r"holds no boot/initrd$"):
            archive.files(SOURCE, ["boot/vmlinux-*", "boot/initrd"])
    assert not list((tmp_path / "cache/debian/files").iterdir())


def test_index_is_asked_for_once_and_an_old_one_serves(tmp_path: Path) -> None:
    first = PlayedApt(tmp_path)
    first.package("linux-image-powerpc64le")
    first.package("linux-image-powerpc64le")
    assert sum("update" in command for command in first.asked) == 1
    stamp = tmp_path / "debian/sid_ppc64el/asked"
    os.utime(stamp, (0, 0))
    later = PlayedApt(tmp_path)
    later.down = True
    assert later.package("linux-image-powerpc64le").version == "6.12.95-1"
    assert "apt-get update --error-on=any" in later.asked


def test_a_package_that_is_gone_makes_the_index_stale(tmp_path: Path) -> None:
    """If a download fails, the next run fetches the index again, because mirrors delete old versions."""
    archive = PlayedApt(tmp_path)
    archive.package("linux-image-powerpc64le")
    archive.down = True
    with pytest.raises(Unavailable, match="no network"):
        archive.files(SOURCE, ["boot/vmlinux"])
    later = PlayedApt(tmp_path)
    later.package("linux-image-powerpc64le")
    assert "apt-get update --error-on=any" in later.asked


def test_no_network_and_no_index_is_a_reason(tmp_path: Path) -> None:
    archive = PlayedApt(tmp_path)
    archive.down = True
    with pytest.raises(Unavailable, match="no network"):
        archive.package("linux-image-powerpc64le")


def test_a_suite_that_cant_be_had_is_asked_for_once_in_a_process(tmp_path: Path) -> None:
    """A mirror that does not answer is tried once in a process, because each attempt takes long."""
    asked = []
    for _ in range(3):
        archive = PlayedApt(tmp_path)
        archive.down = True
        with pytest.raises(Unavailable, match="no network"):
            archive.package("linux-image-powerpc64le")
        asked += archive.asked
    assert len(asked) == 1
    assert PlayedApt(tmp_path / "other").package("linux-image-powerpc64le").version == "6.12.95-1"


def test_an_old_index_serves_without_asking_twice(tmp_path: Path) -> None:
    PlayedApt(tmp_path).package("linux-image-powerpc64le")
    os.utime(tmp_path / "debian/sid_ppc64el/asked", (0, 0))
    asked = []
    for _ in range(2):
        archive = PlayedApt(tmp_path)
        archive.down = True
        assert archive.package("linux-image-powerpc64le").version == "6.12.95-1"
        asked += archive.asked
    assert sum("update" in command for command in asked) == 1


@pytest.mark.parametrize("path", ["../../x", "a/../../x", "/proc/x", "b/../x"])
def test_a_path_that_leads_out_of_the_folder_is_refused(tmp_path: Path, path: str) -> None:
    """If a path in an archive leads out of the folder, it is refused; patterns could match it."""
    out = tmp_path / "in" / "out"
    with pytest.raises(Unavailable, match="leads out of its folder"):
        _take([Member(path, 0o644, BytesIO(b"content"), "")], ["*"], out, "p.deb")
    assert list(tmp_path.rglob("x")) == []
    assert _take([Member("b/x", 0o644, BytesIO(b"content"), "")], ["*/x"], out, "p.deb") == ["b/x"]
    assert (out / "b/x").read_bytes() == b"content"


def test_failures_say_what_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "apt-get"
    program.write_text("#!/bin/sh\necho 'E: nobody answers' >&2\nexit 100\n")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    archive = Archive("sid", "ppc64el", tmp_path)
    with pytest.raises(Unavailable, match=r"^sid: apt-get update: E: nobody answers$"):
        archive._run("apt-get", "update", "--error-on=any")
    with pytest.raises(Unavailable, match=r"^the mirrors of this machine's apt: E: nobody answers$"):
        archive._mirrors()


def test_reason_fails_in_ci_and_is_reported_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no network"), reported():
        raise Unavailable("no network")
    with pytest.raises(pytest.fail.Exception, match="tool is not installed"):
        needed("tool", None)
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match="not run: no network"), reported():
        raise Unavailable("no network")
    with pytest.raises(pytest.skip.Exception, match="not run: tool is not installed"):
        needed("tool", None)
    assert needed("tool", "/bin/tool") == "/bin/tool"
