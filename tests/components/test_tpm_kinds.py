"""The kind of a TPM: the words of the option, the file that stores the kind, and a forgotten option."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from hcall_abi.errors import OperatorError, StorageError
from hcall_abi.rules import storage as rules
from hcall_server.components.seam import Tpm
from hcall_server.components.tpm import tss
from hcall_server.components.tpm.embedded import EmbeddedTpm
from hcall_server.components.tpm.kinds import EMBEDDED, TpmKind, open_tpm, remembered_kind
from hcall_server.components.tpm.swtpm import SwtpmTpm
from hcall_server.components.tpm.tss import TssTpm
from tests.components.swtpm import Swtpm

SECRET = bytes(32)
SWTPM = TpmKind("swtpm", "/run/swtpm/sock")
TCTI = TpmKind("tcti", "device:/dev/tpmrm0")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "tpm"


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the TPM library seem installed; it is not called."""
    monkeypatch.setattr(tss, "_library", lambda name: None)


def opened(folder: Path, wanted: TpmKind | None = None, name: str = "tpm") -> Tpm:
    return open_tpm(folder, name, wanted, os.urandom)


@pytest.mark.parametrize(
    "word,kind",
    [
        ("embedded", EMBEDDED),
        ("swtpm:/run/swtpm/sock", SWTPM),
        ("swtpm:/a/../b:c/./d e", TpmKind("swtpm", "/b:c/d e")),
        ("tcti:device:/dev/tpmrm0", TCTI),
        ("tcti:swtpm:path=/run/sock", TpmKind("tcti", "swtpm:path=/run/sock")),
        ("tcti:swtpm:host=a,port=1", TpmKind("tcti", "swtpm:host=a,port=1")),
        ("tcti:device", TpmKind("tcti", "device")),
    ],
)
def test_words_of_the_option(word: str, kind: TpmKind) -> None:
    assert TpmKind.parse(word) == kind
    assert TpmKind.parse(str(kind)) == kind


def test_relative_paths_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path is stored as an absolute one, because a later start may have another working folder."""
    monkeypatch.chdir(tmp_path)
    assert TpmKind.parse("swtpm:d/sock") == TpmKind("swtpm", f"{tmp_path}/d/sock")
    assert TpmKind.parse("tcti:swtpm:path=d/sock") == TpmKind("tcti", f"swtpm:path={tmp_path}/d/sock")


@pytest.mark.parametrize(
    "word,reason",
    [
        ("", "'' names no TPM"),
        ("swtpm", "there is no kind of TPM 'swtpm'"),
        ("swtpm:", "names no TPM"),
        ("tcti:", "names no TPM"),
        ("embedded:", "names no TPM"),
        ("embedded:/x", "names no TPM"),
        ("device:/dev/tpm0", "names no TPM"),
        ("Embedded", "there is no kind"),
        ("swtpm:/a\nb", "names no TPM"),
        ("tcti:a\0b", "names no TPM"),
        ("swtpm:/" + "x" * 107, "108 bytes: the path of a socket has at most 107"),
        ("tcti:" + "x" * 5000, "longer than 4095 bytes"),
    ],
)
def test_words_that_name_no_tpm(word: str, reason: str) -> None:
    with pytest.raises(OperatorError, match=reason) as caught:
        TpmKind.parse(word)
    assert caught.value.rule is rules.TPM_FORM
    assert "swtpm:PATH" in str(caught.value)


@pytest.mark.usefixtures("library")
def test_each_kind_is_opened_and_remembered(folder: Path) -> None:
    """The embedded kind writes nothing before its first secret. An empty folder means the embedded kind."""
    tpm = opened(folder)
    assert isinstance(tpm, EmbeddedTpm)
    assert not folder.exists()
    assert remembered_kind(folder, "tpm") is None
    tpm.seal(SECRET)
    assert remembered_kind(folder, "tpm") == EMBEDDED
    assert isinstance(opened(folder), EmbeddedTpm)
    assert isinstance(opened(folder, EMBEDDED), EmbeddedTpm)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("kind,part", [(SWTPM, SwtpmTpm), (TCTI, TssTpm)])
def test_an_external_tpm_is_remembered_before_its_use(folder: Path, kind: TpmKind, part: type) -> None:
    """The address of an external TPM is stored in a private file, so a later start needs no option."""
    for wanted in (kind, None):
        tpm = opened(folder, wanted, "tpm-2")
        assert type(tpm) is part
        assert (tpm.name, tpm.kind) == ("tpm-2", kind.kind)
    file = folder / "external"
    assert file.read_text() == f"{kind}\n"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (file, folder)] == [0o600, 0o700]


def test_another_place_of_one_kind_is_remembered(folder: Path) -> None:
    opened(folder, SWTPM)
    before = (folder / "external").stat().st_ino
    opened(folder, SWTPM)
    assert (folder / "external").stat().st_ino == before
    opened(folder, SWTPM._replace(place="/elsewhere/sock"))
    assert remembered_kind(folder, "tpm") == TpmKind("swtpm", "/elsewhere/sock")


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("first", [EMBEDDED, SWTPM, TCTI], ids=str)
@pytest.mark.parametrize("then", [EMBEDDED, SWTPM, TCTI], ids=str)
def test_another_kind_is_refused(folder: Path, first: TpmKind, then: TpmKind) -> None:
    """A start with another kind, or without the option, is refused.

    So the key is never wrapped for a weaker TPM.
    """
    tpm = opened(folder, first)
    if first == EMBEDDED:
        tpm.seal(SECRET)
    if first == then:
        return
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(OperatorError) as caught:
        opened(folder, then)
    assert caught.value.rule is rules.TPM_KIND
    assert caught.value.message == (
        f"tpm: {then} is asked for, and {folder} remembers {first}; "
        f"to have a new TPM, run `swpks hmc replace tpm --state {folder.parent}`"
    )
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_two_kinds_in_one_folder_are_no_guess(folder: Path) -> None:
    opened(folder).seal(SECRET)
    (folder / "external").touch(0o600)
    for wanted in (None, EMBEDDED, SWTPM):
        with pytest.raises(OperatorError, match="has both external and seed: remove the one") as caught:
            opened(folder, wanted)
        assert caught.value.rule is rules.TPM_KIND


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\n", b"swtpm:/a", b"swtpm:/a\n\n", b"swtpm:/a\nx\n", b"swtpm:a\n", b"embedded\n", b"\xff\n",
        b"swtpm:/a/../b\n", b"tcti:" + b"x" * 5000 + b"\n", b"tcti:" + b"x" * 4091 + b"\n",
    ],
)  # fmt: skip
def test_a_file_that_names_no_tpm_is_damage(folder: Path, content: bytes) -> None:
    """If the file has any other content, it is damaged; the error names the file and the remedy."""
    opened(folder, SWTPM)
    file = folder / "external"
    file.write_bytes(content)
    for wanted in (None, SWTPM, EMBEDDED):
        with pytest.raises(StorageError, match=f"tpm: {file} is damaged: .*swpks hmc replace tpm") as caught:
            opened(folder, wanted)
        assert caught.value.rule is rules.TPM_EXTERNAL
    assert file.read_bytes() == content


@pytest.mark.parametrize("path,mode", [("external", 0o644), (".", 0o750)])
def test_a_file_open_to_others_is_refused(folder: Path, path: str, mode: int) -> None:
    """A file that other users can write or read is refused: they could name another TPM in it."""
    opened(folder, SWTPM)
    (folder / path).chmod(mode)
    with pytest.raises(OperatorError, match=f"has mode {mode:04o}") as caught:
        opened(folder)
    assert caught.value.rule is rules.TPM_MODE


@pytest.mark.parametrize("which", ["external", "."])
def test_a_link_is_refused(folder: Path, which: str) -> None:
    opened(folder, SWTPM)
    path = folder / which
    path.symlink_to(path.rename(folder.parent / "elsewhere"))
    with pytest.raises(OperatorError) as caught:
        opened(folder, SWTPM._replace(place="/other"))
    assert caught.value.rule is rules.STATE_LINK


def test_a_missing_library_is_named_and_nothing_is_remembered(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the library is missing, the error names it.

    No kind is stored, so the next start without the option works.
    """
    monkeypatch.setitem(sys.modules, "tpm2_pytss", None)
    with pytest.raises(OperatorError, match=r"libtss2-dev.*pip install 'swpks\[tpm\]'") as caught:
        opened(folder, TCTI)
    assert caught.value.rule is rules.TPM_EXTRA
    assert not folder.exists()


def test_a_forgotten_option_reaches_the_real_tpm(folder: Path, tmp_path: Path) -> None:
    """A secret that was sealed with the option can be unsealed without it."""
    with Swtpm(tmp_path / "a") as swtpm:
        blob = opened(folder, TpmKind.parse(f"swtpm:{swtpm.path}")).seal(SECRET)
        assert opened(folder).unseal(blob) == SECRET


@pytest.mark.usefixtures("not_measured")
def test_a_start_with_the_embedded_tpm_loads_no_other() -> None:
    """A start with the embedded TPM loads no sockets, no threads and no software stack."""
    code = (
        "import os, sys, tempfile; from pathlib import Path\n"
        "from hcall_server.components.tpm.kinds import TpmKind, open_tpm\n"
        "with tempfile.TemporaryDirectory() as folder:\n"
        "    tpm = open_tpm(Path(folder, 'tpm'), 'tpm', TpmKind.parse('embedded'), os.urandom)\n"
        "    assert tpm.unseal(tpm.seal(b'secret')) == b'secret'\n"
        "ours = [name for name in sys.modules if 'components.tpm.' in name]\n"
        "print(*sorted(ours + [name for name in ('socket', 'tpm2_pytss') if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    rooms = [name.removeprefix("hcall_server.components.tpm.") for name in done.stdout.split()]
    assert rooms == ["blobs", "bounds", "embedded", "kinds"]
