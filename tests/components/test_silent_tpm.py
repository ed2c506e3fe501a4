"""A TPM that does not answer, or answers wrongly: the error never says that the blob is bad."""

import struct
import time
from pathlib import Path
from threading import Event, Thread

import pytest

from hcall_abi.errors import ScarcityError
from hcall_abi.rules import storage as rules
from hcall_server.components.seam import TpmRefusedError, TpmSilentError
from hcall_server.components.tpm import commands
from hcall_server.components.tpm.codes import MEANINGS, error_of
from hcall_server.components.tpm.commands import SealedBlob, TpmAnswer, TpmCommand
from hcall_server.components.tpm.patience import patiently
from hcall_server.components.tpm.swtpm import SwtpmTpm
from tests.components.false_tpm import Play, answer, answering, command_of, false_tpm, made, silence, trickle
from tests.components.swtpm import PATIENCE

SECRET = b"CANARY-root-key-0123456789abcdef"
BLOB = SealedBlob(b"private", b"public").joined()
KEY, LOADED = made(0x80000000), made(0x80000001)
HEADER = answer(0, bytes(100))[:10]


def test_a_tpm_that_never_answers(tmp_path: Path) -> None:
    """If the TPM never answers, the operation ends within the caller's time limit."""
    with false_tpm(tmp_path, silence) as path:
        started = time.monotonic()
        with pytest.raises(TpmSilentError, match=r"no whole answer came within 0\.1 seconds") as caught:
            SwtpmTpm(path, "tpm", patience=0.1).seal(SECRET)
        assert 0.1 <= time.monotonic() - started < PATIENCE
    assert caught.value.rule is rules.TPM_ANSWERS
    assert "CANARY" not in repr(caught.value)


def test_a_tpm_that_trickles(tmp_path: Path) -> None:
    """The time limit is for the whole operation, so single bytes in time do not extend it."""
    with false_tpm(tmp_path, trickle) as path:
        started = time.monotonic()
        with pytest.raises(TpmSilentError, match=r"within 0\.2 seconds"):
            SwtpmTpm(path, "tpm", patience=0.2).unseal(BLOB)
        assert 0.2 <= time.monotonic() - started < PATIENCE


@pytest.mark.parametrize(
    "play",
    [
        lambda *_: None,
        answering(),
        answering(b""),
        answering(KEY[:4]),
        answering(KEY[:12]),
        answering(KEY),
        answering(KEY, LOADED),
    ],
    ids=[
        "at once",
        "after the first",
        "no answer",
        "half a header",
        "half an answer",
        "after the key",
        "after the load",
    ],
)
def test_a_tpm_that_dies_in_the_middle(tmp_path: Path, play: Play) -> None:
    """A TPM that ends between two commands, or within an answer, counts as silent."""
    ended = r"closed the connection|reset by peer|Broken pipe"
    with false_tpm(tmp_path, play) as path, pytest.raises(TpmSilentError, match=ended):
        SwtpmTpm(path, "tpm").unseal(BLOB)


@pytest.mark.parametrize(
    "wrong,reason",
    [
        (b"HTTP/1.1 400 Bad Request\r\n", "begins with the tag 0x4854"),
        (struct.pack(">HII", 0x8002, 0xFFFFFFFF, 0), "states a length of 4294967295 bytes"),
        (struct.pack(">HII", 0x8002, 4097, 0), "states a length of 4097 bytes"),
        (struct.pack(">HII", 0x8002, 9, 0), "states a length of 9 bytes"),
        (answer(0), r"another layout \(0 bytes"),
        (answer(0, bytes(8)), r"another layout \(8 bytes"),
        (answer(0, bytes(4000)), r"another layout \(4000 bytes"),
    ],
    ids=["http", "4 GiB", "over the limit", "under the header", "empty", "short", "long"],
)
def test_answers_that_are_none(tmp_path: Path, wrong: bytes, reason: str) -> None:
    """A nonsense answer of any length causes no wait and no large allocation."""
    for play in (answering(wrong), answering(KEY, wrong)):
        with false_tpm(tmp_path, play) as path, pytest.raises(TpmSilentError, match=reason):
            SwtpmTpm(path, "tpm").unseal(BLOB)
        Path(path).unlink()


def test_a_secret_of_another_layout_is_not_shown(tmp_path: Path) -> None:
    """If the answer to UNSEAL is malformed, the error does not show the key in it."""
    for body in (SECRET, struct.pack(">IH", 34, 33) + SECRET + bytes(5)):
        flushed = answer(0, tag=0x8001)
        play = answering(KEY, LOADED, answer(0, body), flushed, flushed)
        with false_tpm(tmp_path, play) as path, pytest.raises(TpmSilentError) as caught:
            SwtpmTpm(path, "tpm").unseal(BLOB)
        assert "CANARY" not in f"{caught.value!r} {caught.value} {caught.value.__cause__}"
        Path(path).unlink()
    assert "CANARY" not in repr(TpmAnswer(0, SECRET))


def test_objects_are_removed_also_after_an_error(tmp_path: Path) -> None:
    """Objects are removed after an error too, the last one first.

    If a removal fails, the answer still counts.
    """
    asked: list[bytes] = []

    def play(connection, over) -> None:
        for reply in (answer(0), KEY, LOADED, answer(0x921), answer(0x101), answer(0x101)):
            asked.append(command_of(connection))
            connection.sendall(reply)

    with false_tpm(tmp_path, play) as path, pytest.raises(TpmSilentError, match="0x921: it is locked"):
        SwtpmTpm(path, "tpm").unseal(BLOB)
    assert asked[4:] == [commands.flush_context(0x80000001), commands.flush_context(0x80000000)]


@pytest.mark.parametrize("command", TpmCommand)
def test_only_what_blames_the_blob_is_a_refusal(command: TpmCommand) -> None:
    """Only format-one codes in answers to LOAD or UNSEAL mean that the blob is refused."""
    for code in range(1, 0x1000):
        error = error_of("tpm", command, code)
        refused = bool(code & 0x80) and command in (TpmCommand.LOAD, TpmCommand.UNSEAL)
        assert type(error) is (TpmRefusedError if refused else TpmSilentError)
        assert f"{code:#05x}" in error.message
        assert command.name in error.message


@pytest.mark.parametrize("code", MEANINGS)
def test_codes_have_advice(code: int) -> None:
    meaning, advice = MEANINGS[code]
    assert error_of("tpm-2", TpmCommand.CREATE, code).message == (
        f"tpm-2: the TPM answers CREATE with {code:#05x}: {meaning}; {advice}"
    )


def test_a_library_that_hangs_is_left_behind() -> None:
    """If the library hangs, the caller goes on after its time limit. A late result is dropped."""
    over, late = Event(), Event()

    def hang() -> None:
        over.wait(PATIENCE)
        late.set()

    with pytest.raises(TpmSilentError, match=r"tpm: the TPM did not answer within 0\.05 seconds"):
        patiently(hang, "tpm", 0.05)
    over.set()
    assert late.wait(PATIENCE)


def test_patience_passes_results_and_errors_on() -> None:
    def refuse() -> None:
        raise TpmRefusedError("another TPM made it")

    assert patiently(lambda: 7, "tpm", PATIENCE) == 7
    with pytest.raises(TpmRefusedError, match="another TPM made it"):
        patiently(refuse, "tpm", PATIENCE)


def test_patience_needs_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """If no thread can be started, the error says that, and does not blame the TPM."""

    def refuse(self: Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Thread, "start", refuse)
    with pytest.raises(ScarcityError, match="the thread of tpm-2: no thread can be started"):
        patiently(lambda: None, "tpm-2", PATIENCE)
