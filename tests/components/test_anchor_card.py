"""The anchor card is read whole and private, or refused with the reason. No text shows its root key."""

import hashlib
import os
import shutil
import stat
import struct
from pathlib import Path

import pytest

from hcall_abi.errors import LaterLevelError, OperatorError, StorageError
from hcall_abi.rules import storage as rules
from hcall_server.components.anchor_card import AnchorCard
from hcall_server.components.seam import AnchorCardPart, Card
from hcall_server.platform.identity import SEALED_LEVEL, SystemIdentity

IDENTITY = SystemIdentity(bytes(range(16)), b"CANARY-root-key-0123456789abcdef")
CONTENT = Card(IDENTITY)
OF_LEVEL_1 = Card(IDENTITY._replace(sealed_level=1))
OTHER = Card(SystemIdentity(bytes(16), bytes(32)), reset_pending=True)


@pytest.fixture
def card(tmp_path: Path) -> AnchorCard:
    return AnchorCard(tmp_path / "anchor")


@pytest.fixture
def file(card: AnchorCard, tmp_path: Path) -> Path:
    """The path of a card that was written."""
    card.write(CONTENT)
    return tmp_path / "anchor" / "anchor-card"


def test_a_new_system_has_no_card(card: AnchorCard) -> None:
    """A read of a missing card makes neither a folder nor a key."""
    assert card.read() is None
    card.write(CONTENT)
    assert card.read() == CONTENT


def test_a_card_is_a_part_behind_its_seam(card: AnchorCard) -> None:
    """The card in a file has the same interface as the card in memory."""
    part: AnchorCardPart = card
    part.write(CONTENT)
    assert (part.name, part.read()) == ("anchor card", CONTENT)


def test_another_process_reads_the_same_card(card: AnchorCard, file: Path) -> None:
    """R-21: a written card is still there for another process. A second write replaces the whole card."""
    assert AnchorCard(file.parent).read() == CONTENT
    card.write(OTHER)
    assert AnchorCard(file.parent).read() == OTHER
    assert [path.name for path in file.parent.iterdir()] == ["anchor-card"]


@pytest.mark.parametrize(
    "content,flags", [(CONTENT, 0), (OF_LEVEL_1, 0), (OTHER, 1)], ids=["level 2", "level 1", "reset pending"]
)
def test_the_file_has_the_documented_layout(card: AnchorCard, file: Path, content: Card, flags: int) -> None:
    """The file has the layout of spec/sealed.md#anchor-card.

    Its level is the sealed level of the records in NVRAM.
    """
    card.write(content)
    system_id, root_key, level = content.identity
    body = struct.pack(">4sBBH16s32s", b"SPKA", level, flags, 0, system_id, root_key)
    assert file.read_bytes() == body + hashlib.sha256(body).digest()
    assert AnchorCard(file.parent).read() == content


def test_a_new_card_has_the_level_that_promises_a_commit_record() -> None:
    """R-22: a new card has level 2. So a lost commit record never makes the system look new."""
    assert SystemIdentity.make(bytes).sealed_level == SEALED_LEVEL == 2
    assert SystemIdentity(bytes(16), bytes(32)).sealed_level == 2


def test_a_card_of_level_1_is_read_and_becomes_one_of_level_2(card: AnchorCard, file: Path) -> None:
    """R-21: a card of level 1 can be read. Its conversion changes only the level."""
    card.write(OF_LEVEL_1)
    before = file.read_bytes()
    found = AnchorCard(file.parent).read()
    assert found == OF_LEVEL_1
    card.write(CONTENT)
    after = file.read_bytes()
    assert card.read() == CONTENT
    assert [at for at in range(56) if before[at] != after[at]] == [4]


def test_nobody_else_can_read_it(file: Path) -> None:
    """The card has mode 0600 in a folder of mode 0700, whatever the umask is."""
    assert [stat.S_IMODE(path.stat().st_mode) for path in (file, file.parent)] == [0o600, 0o700]


@pytest.mark.parametrize(
    "which,mode", [("file", 0o640), ("file", 0o604), ("folder", 0o750), ("folder", 0o701)]
)
def test_a_card_open_to_others_is_refused(card: AnchorCard, file: Path, which: str, mode: int) -> None:
    """If other users can read the card, the error names the path, its mode and the right mode."""
    path = file if which == "file" else file.parent
    path.chmod(mode)
    with pytest.raises(OperatorError, match=f"{path} has mode {mode:04o}") as caught:
        card.read()
    assert "mode 0600 in a folder of mode 0700" in caught.value.rule.sentence


def test_every_flipped_bit_is_found(card: AnchorCard, file: Path) -> None:
    """R-02, R-22: a card with a flipped bit is refused, so no damaged key or level is ever used."""
    good = file.read_bytes()
    for bit in range(8 * len(good)):
        changed = bytearray(good)
        changed[bit // 8] ^= 1 << bit % 8
        file.write_bytes(changed)
        with pytest.raises(StorageError, match=r"anchor card: .* is damaged"):
            card.read()


def test_every_other_length_is_refused(card: AnchorCard, file: Path) -> None:
    """A cut, empty or extended file is reported as damaged."""
    good = file.read_bytes()
    for length in range(len(good)):
        file.write_bytes(good[:length])
        with pytest.raises(StorageError, match=str(file)):
            card.read()
    file.write_bytes(good + b"x")
    with pytest.raises(StorageError, match="layout of level 1 or 2"):
        card.read()


@pytest.mark.parametrize("level", [0, 3, 255])
def test_a_card_of_a_later_level_is_refused(card: AnchorCard, file: Path, level: int) -> None:
    """A card with a valid check value and an unknown level is refused."""
    body = file.read_bytes()[:4] + bytes([level]) + file.read_bytes()[5:56]
    file.write_bytes(body + hashlib.sha256(body).digest())
    later = f"level {level} of a later release, and this release reads levels 1 and 2"
    words = later if level else "layout of level 1 or 2"
    with pytest.raises(StorageError, match=words) as caught:
        card.read()
    assert isinstance(caught.value, LaterLevelError) == bool(level)


@pytest.mark.parametrize("at,bits", [(0, 1), (5, 2), (5, 0x80), (5, 3), (6, 1), (7, 1)])
def test_reserved_bytes_and_magic_are_checked(card: AnchorCard, file: Path, at: int, bits: int) -> None:
    """R-02: a card with a valid check value but another magic or an unknown bit is refused."""
    body = bytearray(file.read_bytes()[:56])
    body[at] ^= bits
    file.write_bytes(bytes(body) + hashlib.sha256(body).digest())
    with pytest.raises(StorageError, match="layout of level 1 or 2"):
        card.read()


@pytest.mark.parametrize("what", ["folder", "pipe"])
def test_a_card_that_is_no_plain_file_is_refused(card: AnchorCard, file: Path, what: str) -> None:
    """Anything except a plain file is refused, and the read never blocks."""
    file.rename(file.with_name("elsewhere"))
    match what:
        case "folder":
            file.mkdir()
        case "pipe":
            os.mkfifo(file, 0o600)
    with pytest.raises(StorageError, match=r"can't be read|is not a plain file"):
        card.read()


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_link_is_neither_read_nor_written(card: AnchorCard, file: Path, what: str) -> None:
    """R-02: a link in place of the card or its folder is refused. Its target is unchanged."""
    path = file if what == "file" else file.parent
    target = path.rename(path.with_name("elsewhere"))
    path.symlink_to(target)
    target.chmod(0o755)
    before = target.stat()
    for attempt in (card.read, lambda: card.write(CONTENT)):
        with pytest.raises(OperatorError, match=f"{path} is a symbolic link to {target}") as caught:
            attempt()
        assert caught.value.rule is rules.STATE_LINK
    after = target.stat()
    assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)


@pytest.mark.parametrize(
    "loss", ["file deleted", "folder deleted", "other card", "overwritten", "open to others"]
)
def test_the_loss_of_a_card_is_told(card: AnchorCard, file: Path, loss: str) -> None:
    """R-21: if the card is lost, this is reported until it is back. No start works meanwhile."""
    assert card.moved() is None
    content, mode = file.read_bytes(), file.stat().st_mode
    match loss:
        case "file deleted":
            file.unlink()
        case "folder deleted":
            shutil.rmtree(file.parent)
        case "other card":
            AnchorCard(file.parent).write(OTHER)
        case "overwritten":
            file.write_bytes(content[:-1])
        case "open to others":
            file.write_bytes(content)
            file.chmod(0o644)
    for _ in range(2):
        assert str(file) in str(card.moved())
    file.parent.mkdir(exist_ok=True)
    file.parent.chmod(0o700)
    file.write_bytes(content)
    file.chmod(mode)
    assert card.moved() is None
    assert card.read() == CONTENT


def test_a_card_that_was_never_read_cannot_be_lost(tmp_path: Path) -> None:
    """A system that has no card yet reports no loss."""
    card = AnchorCard(tmp_path / "none")
    assert card.read() is None
    assert card.moved() is None


def test_a_power_cut_while_writing_leaves_the_old_card(card: AnchorCard, file: Path) -> None:
    """R-21: a read ignores an unfinished new card, and the next write removes it."""
    unfinished = file.with_name("anchor-card.new")
    unfinished.write_bytes(file.read_bytes()[:40])
    assert card.read() == CONTENT
    card.write(OTHER)
    assert card.read() == OTHER
    assert not unfinished.exists()


def test_a_card_that_cannot_be_written_stays_what_it_was(card: AnchorCard, file: Path) -> None:
    """If a new card can't be written, the old one stays, and the error names the file."""
    file.with_name("anchor-card.new").mkdir()
    with pytest.raises(StorageError, match=f"{file} can't be written"):
        card.write(OTHER)
    assert card.read() == CONTENT


def test_a_card_that_cannot_be_renamed_leaves_no_second_copy(
    card: AnchorCard, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed write, no second file has the root key."""

    def refuse(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(StorageError, match="No space left"):
        card.write(OTHER)
    assert card.read() == CONTENT
    assert [path.name for path in file.parent.iterdir()] == ["anchor-card"]


def test_the_root_key_never_shows(card: AnchorCard, file: Path) -> None:
    """No repr and no error contains the root key."""
    text = f"{IDENTITY} {IDENTITY!r} {card!r} {[IDENTITY]}"
    file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(StorageError) as caught:
        card.read()
    assert "CANARY" not in text + str(caught.value) + repr(caught.value)


def test_a_new_identity_is_made_of_entropy_alone() -> None:
    """A new identity takes sixteen bytes of entropy for the id, then thirty-two for the root key."""
    asked: list[int] = []

    def entropy(count: int) -> bytes:
        asked.append(count)
        return bytes([len(asked)]) * count

    assert SystemIdentity.make(entropy) == SystemIdentity(b"\x01" * 16, b"\x02" * 32)
    assert asked == [16, 32]
