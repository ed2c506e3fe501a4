"""The root key under a real TPM 2.0, with plain commands: unsealing, refusals, restarts."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hcall_server.components.seam import Tpm, TpmRefusedError, TpmSilentError
from hcall_server.components.tpm import commands
from hcall_server.components.tpm.commands import SealedBlob
from hcall_server.components.tpm.swtpm import SwtpmTpm
from tests.components.swtpm import Swtpm

SECRET = b"CANARY-root-key-0123456789abcdef"


@pytest.fixture
def swtpm(tmp_path: Path) -> Iterator[Swtpm]:
    with Swtpm(tmp_path / "a") as started:
        yield started


@pytest.fixture
def tpm(swtpm: Swtpm) -> SwtpmTpm:
    return SwtpmTpm(swtpm.path, "tpm")


def test_a_secret_comes_back(swtpm: Swtpm, tpm: SwtpmTpm) -> None:
    """A secret that one connection has sealed can be unsealed by another. The blob does not show it."""
    part: Tpm = tpm
    blob = part.seal(SECRET)
    assert SECRET not in blob
    assert SwtpmTpm(swtpm.path, "tpm-2").unseal(blob) == SECRET
    assert (part.name, part.kind) == ("tpm", "swtpm")
    assert swtpm.loaded() == 0


def test_sizes_up_to_the_limit(tpm: SwtpmTpm) -> None:
    """A secret that is too long is refused before it is sent.

    If the TPM refused it, the error would look like trouble with the TPM.
    """
    for size in (1, 128):
        assert tpm.unseal(tpm.seal(bytes(size))) == bytes(size)
    with pytest.raises(ValueError, match="at most 128 bytes, and these are 129"):
        tpm.seal(bytes(129))


def test_restarts_keep_what_was_sealed(swtpm: Swtpm, tpm: SwtpmTpm) -> None:
    """Sealed secrets can be unsealed after a shutdown, and after kill -9 with its old sockets."""
    blob = tpm.seal(SECRET)
    swtpm.stop()
    swtpm.start()
    assert tpm.unseal(blob) == SECRET
    swtpm.restart()
    assert tpm.unseal(blob) == SECRET


def test_another_tpm_refuses(tmp_path: Path, tpm: SwtpmTpm) -> None:
    blob = tpm.seal(SECRET)
    with (
        Swtpm(tmp_path / "b") as other,
        pytest.raises(TpmRefusedError, match="LOAD with 0x1df: another TPM has wrapped") as caught,
    ):
        SwtpmTpm(other.path, "tpm").unseal(blob)
    assert "CANARY" not in repr(caught.value)


def test_a_cleared_tpm_refuses(swtpm: Swtpm, tpm: SwtpmTpm) -> None:
    """After TPM2_Clear old blobs are refused; new ones unseal."""
    blob = tpm.seal(SECRET)
    swtpm.clear()
    with pytest.raises(TpmRefusedError, match="0x1df"):
        tpm.unseal(blob)
    assert tpm.unseal(tpm.seal(SECRET)) == SECRET


@pytest.mark.usefixtures("not_measured")
def test_every_flipped_bit_is_refused(swtpm: Swtpm, tpm: SwtpmTpm) -> None:
    """A blob with a flipped bit is refused as foreign, and not reported as a silent TPM."""
    blob = tpm.seal(SECRET)
    for bit in range(8 * len(blob)):
        damaged = bytearray(blob)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(TpmRefusedError) as caught:
            tpm.unseal(bytes(damaged))
        assert "CANARY" not in repr(caught.value)
    assert swtpm.loaded() == 0
    assert tpm.unseal(blob) == SECRET


@pytest.mark.parametrize(
    "change,reason",
    [
        (lambda blob: b"", r"\(0 bytes\)"),
        (lambda blob: blob[:-1], r"\(207 bytes\)"),
        (lambda blob: blob + b"x", r"\(209 bytes\)"),
        (lambda blob: bytes(5000), "5000 bytes, more than any"),
    ],
    ids=["empty", "short", "long", "huge"],
)
def test_a_blob_of_another_shape_is_not_sent(tpm: SwtpmTpm, change, reason: str) -> None:
    with pytest.raises(TpmRefusedError, match=reason):
        tpm.unseal(change(tpm.seal(SECRET)))


def test_parts_of_two_blobs_do_not_fit(tpm: SwtpmTpm) -> None:
    """A blob with the private part of one secret and the public part of another is refused."""
    one, other = (SealedBlob.split(tpm.seal(each)) for each in (SECRET, bytes(32)))
    with pytest.raises(TpmRefusedError, match="0x1df"):
        tpm.unseal(one._replace(public=other.public).joined())


def test_refusals_leave_nothing_in_the_tpm(swtpm: Swtpm, tpm: SwtpmTpm) -> None:
    """After twenty refusals the TPM's memory, which has room for three objects, is empty."""
    foreign = SealedBlob.split(tpm.seal(SECRET))
    foreign = foreign._replace(private=foreign.private[:-1] + bytes([foreign.private[-1] ^ 1]))
    for _ in range(20):
        with pytest.raises(TpmRefusedError):
            tpm.unseal(foreign.joined())
    assert swtpm.loaded() == 0


def test_a_tpm_that_was_not_started_up(swtpm: Swtpm, tpm: SwtpmTpm) -> None:
    """If the TPM has had no startup, the blob is not refused. The advice names the option."""
    blob = tpm.seal(SECRET)
    swtpm.stop()
    swtpm.start(started_up=False)
    for attempt in (lambda: tpm.unseal(blob), lambda: tpm.seal(SECRET)):
        with pytest.raises(TpmSilentError, match=r"0x100: it was not .* --flags startup-clear") as caught:
            attempt()
        assert "CANARY" not in repr(caught.value)


@pytest.mark.parametrize("how,reason", [("stop", "No such file"), ("kill", "Connection refused")])
def test_a_tpm_that_does_not_run(swtpm: Swtpm, tpm: SwtpmTpm, how: str, reason: str) -> None:
    """If the TPM does not run, the error says so.

    After a shutdown its socket is missing. After a kill the socket refuses connections.
    """
    blob = tpm.seal(SECRET)
    getattr(swtpm, how)()
    for attempt in (lambda: tpm.unseal(blob), lambda: tpm.seal(SECRET)):
        with pytest.raises(TpmSilentError, match=f"tpm at {swtpm.path}: {reason}"):
            attempt()


def test_an_owner_with_a_password_is_named(swtpm: Swtpm, tpm: SwtpmTpm) -> None:
    """If the owner has a password, CREATE_PRIMARY fails with a format-one code. The blob is not refused."""
    blob = tpm.seal(SECRET)
    swtpm.own(b"owner")
    with pytest.raises(TpmSilentError, match="0x9a2: its owner hierarchy has a password; remove"):
        tpm.unseal(blob)


def test_a_busy_tpm_is_silent(swtpm: Swtpm, tpm: SwtpmTpm) -> None:
    """While another client is connected, swtpm is silent. Afterwards it works again.

    By then the callers of the earlier commands have given up. These commands leave nothing in the TPM.
    """
    blob = tpm.seal(SECRET)
    with tpm._connected():
        for _ in range(3):
            with pytest.raises(TpmSilentError, match=r"no whole answer came within 0\.05 seconds"):
                SwtpmTpm(swtpm.path, "tpm", patience=0.05).unseal(blob)
    assert tpm.unseal(blob) == SECRET
    assert swtpm.loaded() == 0


def made_in(link) -> int:
    """Make a primary key in the TPM, and do not remove it."""
    return commands.handle_of(link.run(commands.TpmCommand.CREATE_PRIMARY, commands.create_primary()))


def test_a_full_tpm_is_silent(swtpm: Swtpm, tpm: SwtpmTpm) -> None:
    """A TPM that is full of other programs' objects counts as silent. The blob is not refused."""
    blob = tpm.seal(SECRET)
    with tpm._connected() as connection:
        for _ in range(3):
            made_in(connection)
    assert swtpm.loaded() == 3
    with pytest.raises(TpmSilentError, match="0x902: its memory for objects is full"):
        tpm.unseal(blob)
