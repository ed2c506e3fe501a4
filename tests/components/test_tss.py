"""A TPM used through its software stack: the blobs and errors are the same as with plain commands."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hcall_server.components.seam import Tpm, TpmRefusedError, TpmSilentError
from hcall_server.components.tpm.swtpm import SwtpmTpm
from hcall_server.components.tpm.tss import TssTpm
from tests.components.false_tpm import false_tpm, silence
from tests.components.swtpm import PATIENCE, Swtpm
from tests.debian.reporting import needed

SECRET = b"CANARY-root-key-0123456789abcdef"


@pytest.fixture(autouse=True)
def _extra() -> None:
    found = importlib.util.find_spec("tpm2_pytss")
    needed("the extra `tpm` (make test: libtss2-dev, pkg-config, gcc)", found.name if found else None)


@pytest.fixture
def swtpm(tmp_path: Path) -> Iterator[Swtpm]:
    with Swtpm(tmp_path / "a") as started:
        yield started


@pytest.fixture
def tpm(swtpm: Swtpm) -> TssTpm:
    return TssTpm(swtpm.tcti, "tpm")


def test_both_ways_lead_to_one_tpm(swtpm: Swtpm, tpm: TssTpm) -> None:
    """Each adapter unseals the secrets that the other has sealed."""
    plain: Tpm = SwtpmTpm(swtpm.path, "tpm")
    stack: Tpm = tpm
    for maker in (plain, stack):
        blob = maker.seal(SECRET)
        assert SECRET not in blob
        assert [plain.unseal(blob), stack.unseal(blob)] == [SECRET, SECRET]
    assert (stack.name, stack.kind) == ("tpm", "tcti")
    assert swtpm.loaded() == 0


def test_sizes_up_to_the_limit(tpm: TssTpm) -> None:
    for size in (1, 128):
        assert tpm.unseal(tpm.seal(bytes(size))) == bytes(size)
    with pytest.raises(ValueError, match="at most 128 bytes"):
        tpm.seal(bytes(129))


def test_restarts_keep_what_was_sealed(swtpm: Swtpm, tpm: TssTpm) -> None:
    blob = tpm.seal(SECRET)
    swtpm.restart()
    assert tpm.unseal(blob) == SECRET


def test_other_and_cleared_tpms_refuse(tmp_path: Path, swtpm: Swtpm, tpm: TssTpm) -> None:
    """Another or a cleared TPM refuses a blob. Twenty refusals leave nothing in the TPM."""
    blob = tpm.seal(SECRET)
    with Swtpm(tmp_path / "b") as other:
        for _ in range(20):
            with pytest.raises(TpmRefusedError, match="LOAD with 0x1df"):
                TssTpm(other.tcti, "tpm").unseal(blob)
        assert other.loaded() == 0
    swtpm.clear()
    with pytest.raises(TpmRefusedError, match="LOAD with 0x1df") as caught:
        tpm.unseal(blob)
    assert "CANARY" not in repr(caught.value)


@pytest.mark.usefixtures("not_measured")
def test_damaged_bytes_are_refused(swtpm: Swtpm, tpm: TssTpm) -> None:
    """Damaged bytes are refused, even if the library itself parses them.

    They are not reported as a silent TPM.
    """
    blob = tpm.seal(SECRET)
    public = len(blob) - 50
    for bit in (*range(0, 8 * public, 61), *range(8 * public, 8 * len(blob), 3)):
        damaged = bytearray(blob)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(TpmRefusedError) as caught:
            tpm.unseal(bytes(damaged))
        assert "CANARY" not in repr(caught.value)
    for other in (b"", blob[:-1], blob + b"x", bytes(5000)):
        with pytest.raises(TpmRefusedError):
            tpm.unseal(other)
    assert swtpm.loaded() == 0


def test_a_tpm_that_does_not_run_or_was_not_started_up(swtpm: Swtpm, tpm: TssTpm) -> None:
    blob = tpm.seal(SECRET)
    swtpm.kill()
    with pytest.raises(TpmSilentError, match=r"tpm at swtpm:path=.* \(0xa000a\); is the TPM running"):
        tpm.unseal(blob)
    swtpm.start(started_up=False)
    for attempt in (lambda: tpm.unseal(blob), lambda: tpm.seal(SECRET)):
        with pytest.raises(TpmSilentError, match="0x100: it was not started up") as caught:
            attempt()
        assert "CANARY" not in repr(caught.value)


def test_a_tcti_that_does_not_exist() -> None:
    with pytest.raises(TpmSilentError, match=r"tpm-2 at nonsense: .*is the TPM running, and the TCTI right"):
        TssTpm("nonsense", "tpm-2").seal(SECRET)


def test_a_tpm_that_never_answers(tmp_path: Path) -> None:
    """If the TPM never answers, the caller goes on after its own time limit.

    The library has no time-out, so its thread is left behind.
    """
    with false_tpm(tmp_path, silence) as path:
        os.link(path, f"{path}.ctrl")
        with pytest.raises(TpmSilentError, match=r"did not answer within 0\.1 seconds") as caught:
            TssTpm(f"swtpm:path={path}", "tpm", patience=0.1).seal(SECRET)
    assert "CANARY" not in repr(caught.value)


@pytest.mark.usefixtures("not_measured")
@pytest.mark.parametrize("level,lines", [(None, False), ("all+ERROR", True)])
def test_the_library_writes_to_no_terminal(level: str | None, lines: bool) -> None:
    """The library's own log is not on standard error, unless the operator asks for it."""
    code = (
        "from hcall_server.components.tpm.tss import TssTpm\n"
        "try: TssTpm('swtpm:path=/nowhere', 'tpm').seal(b'secret')\n"
        "except Exception as error: print(type(error).__name__)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TSS2_LOG"}
    environment |= {"TSS2_LOG": level} if level else {}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=True, timeout=PATIENCE, env=environment,
    )  # fmt: skip
    assert done.stdout == "TpmSilentError\n"
    assert bool(done.stderr) is lines
