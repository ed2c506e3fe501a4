"""Physical presence: one word for one action, ten minutes, three tries, and only plain files."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from hcall_abi.errors import OperatorError, ScarcityError
from hcall_abi.rules import service as rules
from hcall_abi.rules import storage
from hcall_server.service.presence import ALPHABET, LIFETIME, WORD_SIZE, Presence
from tests.service.present import ACTION, Clock, request, tries


@pytest.fixture
def clock() -> Clock:
    """The clock of `presence`."""
    return Clock()


@pytest.fixture
def presence(tmp_path: Path, clock: Clock) -> Presence:
    """Physical presence in an empty folder."""
    return Presence(tmp_path, clock, os.urandom)


def wrong(presence: Presence, content: bytes = b"WRONG") -> OperatorError:
    """Prove presence with a file of other content; return the refusal."""
    presence.path.write_bytes(content)
    with pytest.raises(OperatorError) as caught:
        presence.proven(ACTION)
    return caught.value


def test_the_written_word_counts_once(presence: Presence) -> None:
    """A written word counts once: both files are removed, so the next call proves nothing."""
    word = presence.ask(ACTION)
    presence.path.write_text(word)
    assert presence.proven(ACTION)
    assert not presence.path.exists()
    assert not request(presence).exists()
    presence.path.write_text(word)
    assert not presence.proven(ACTION)


def test_a_word_is_random_and_easy_to_copy(tmp_path: Path, clock: Clock) -> None:
    """Each byte chooses one of 32 characters, evenly. No two of them look alike."""
    assert len(set(ALPHABET)) == 32
    assert not set("IO01") & set(ALPHABET)
    assert Presence(tmp_path, clock, lambda size: bytes(range(size))).ask(ACTION) == ALPHABET[:WORD_SIZE]
    high = Presence(tmp_path, clock, lambda size: bytes(255 - n for n in range(size)))
    assert high.ask(ACTION) == ALPHABET[: -WORD_SIZE - 1 : -1]


def test_without_random_bytes_there_is_no_word(tmp_path: Path, clock: Clock) -> None:
    """If entropy returns too few bytes, no word is made."""
    with pytest.raises(ScarcityError):
        Presence(tmp_path, clock, lambda _: b"short").ask(ACTION)
    assert list(tmp_path.iterdir()) == []


def test_the_request_is_private_and_holds_no_word(presence: Presence, clock: Clock) -> None:
    """The file of a request has mode 0600 and exactly the bytes of spec/erase.md, so it has no word."""
    word = presence.ask(ACTION)
    digest = hashlib.sha256(word.encode()).hexdigest()
    content = f'{{"action":"{ACTION}","word_sha256":"{digest}","time":{clock.now},"tries":0}}'
    assert request(presence).read_text() == content
    assert stat.S_IMODE(request(presence).stat().st_mode) == 0o600
    assert stat.S_IMODE(request(presence).parent.stat().st_mode) == 0o700
    assert word not in repr(presence)


@pytest.mark.parametrize("end", ["", "\n", "\r\n", " ", "\t \n", "  \r\n"])
def test_blanks_and_a_line_end_do_not_count(presence: Presence, end: str) -> None:
    """Blanks and a line end after the word do not matter, because editors and shells write them."""
    presence.path.parent.mkdir(exist_ok=True)
    word = presence.ask(ACTION)
    presence.path.write_bytes(f"{word}{end}".encode())
    assert presence.proven(ACTION)


@pytest.mark.parametrize("form", ["\n{}", " {}", "{}\n\n", "{}\n ", "{}\r", "{} {}", "{}\0", "{}" + 53 * " "])
def test_nothing_else_may_be_there(presence: Presence, form: str) -> None:
    """Anything but one line with the word, of at most 64 bytes, is a wrong word."""
    word = presence.ask(ACTION)
    error = wrong(presence, form.format(word, word).encode())
    assert error.rule is rules.PRESENCE_WORD


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\x00", bytes(1 << 16)])
def test_bytes_that_are_no_word(presence: Presence, content: bytes) -> None:
    """A presence file without text, or with other bytes, counts as a wrong word."""
    presence.ask(ACTION)
    assert wrong(presence, content).rule is rules.PRESENCE_WORD


def test_the_longest_file(presence: Presence) -> None:
    """A presence file of 64 bytes, the longest, is read."""
    presence.path.write_bytes(presence.ask(ACTION).encode().ljust(64))
    assert presence.proven(ACTION)


def test_three_tries(presence: Presence) -> None:
    """Each wrong file is removed and uses up a try. After the third, the word is invalid."""
    word = presence.ask(ACTION)
    for left in ("2 tries are left", "1 try is left", "no try is left"):
        error = wrong(presence)
        assert error.rule is rules.PRESENCE_WORD
        assert left in error.message
        assert word not in str(error)
        assert not presence.path.exists()
    assert not request(presence).exists()
    presence.path.write_text(word)
    assert not presence.proven(ACTION)


def test_the_third_try_may_be_right(presence: Presence) -> None:
    """After two wrong files the right word counts, also in another process."""
    word = presence.ask(ACTION)
    wrong(presence)
    wrong(presence)
    presence.path.write_text(word)
    assert Presence(presence.path.parent, Clock(), os.urandom).proven(ACTION)


def test_a_word_is_for_one_action(presence: Presence) -> None:
    """A word for another action proves nothing and uses no try."""
    presence.path.write_text(presence.ask("reset-settings"))
    assert not presence.proven(ACTION)
    assert tries(presence) == 0
    assert presence.proven("reset-settings")


@pytest.mark.parametrize("seconds", [LIFETIME, 1e9, -0.001, -1e9, float("nan")])
def test_a_word_that_is_too_old_or_not_made_yet(presence: Presence, clock: Clock, seconds: float) -> None:
    """A word is invalid after ten minutes, or if the clock was set back."""
    presence.path.write_text(presence.ask(ACTION))
    clock.now += seconds
    assert not presence.proven(ACTION)


def test_a_word_lasts_ten_minutes(presence: Presence, clock: Clock) -> None:
    """A word is valid until just before ten minutes have passed."""
    presence.path.write_text(presence.ask(ACTION))
    clock.now += LIFETIME - 0.001
    assert presence.proven(ACTION)


def test_nothing_was_asked_or_written(presence: Presence) -> None:
    """Without a word, or without the file, nothing is proven and no try is used."""
    assert not presence.proven(ACTION)
    assert list(presence.path.parent.iterdir()) == []
    presence.ask(ACTION)
    assert not presence.proven(ACTION)
    assert tries(presence) == 0


def test_asking_again_replaces_the_word(presence: Presence) -> None:
    """A new request makes the older word wrong."""
    older = presence.ask(ACTION)
    assert presence.ask(ACTION) != older
    assert wrong(presence, older.encode()).rule is rules.PRESENCE_WORD


def test_a_file_from_before_the_word_is_removed(presence: Presence) -> None:
    """A request removes a presence file that is older than the word, and reports that once."""
    presence.path.write_text("early")
    presence.ask(ACTION)
    assert presence.older_removed
    assert not presence.path.exists()
    presence.ask(ACTION)
    assert not presence.older_removed


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut": lambda content: content[:-1],
    "longer": lambda content: content + b"\n",
    "a field more": lambda content: content[:-1] + b',"more":1}',
    "a field twice": lambda content: content[:-1] + b',"tries":0}',
    "no tries": lambda content: content.replace(b',"tries":0', b""),
    "tries below zero": lambda content: content.replace(b'"tries":0', b'"tries":-1'),
    "tries used up": lambda content: content.replace(b'"tries":0', b'"tries":3'),
    "tries as text": lambda content: content.replace(b'"tries":0', b'"tries":"0"'),
    "a list": lambda _: b"[]",
    "no text": lambda content: content.replace(b"clear", b"\xff\xfe"),
    "deep": lambda _: b"[" * 1000,
    "huge": lambda content: content.ljust(1 << 20),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_request_is_none(presence: Presence, damage: Callable[[bytes], bytes]) -> None:
    """If the request is damaged, nothing is proven, and the presence file stays until a new request."""
    presence.path.write_text(presence.ask(ACTION))
    request(presence).write_bytes(damage(request(presence).read_bytes()))
    assert not presence.proven(ACTION)
    assert presence.path.exists()
    presence.path.write_text(presence.ask(ACTION))
    assert presence.proven(ACTION)


@pytest.mark.parametrize("kind", ["link", "fifo"])
def test_a_request_that_is_no_file_is_replaced(presence: Presence, tmp_path: Path, kind: str) -> None:
    """A request replaces a link in its place; the target of the link stays unchanged."""
    presence.path.write_text(presence.ask(ACTION))
    elsewhere = request(presence).rename(tmp_path / "elsewhere")
    before = elsewhere.read_bytes()
    if kind == "link":
        request(presence).symlink_to(elsewhere)
    else:
        os.mkfifo(request(presence))
    assert not presence.proven(ACTION)
    presence.ask(ACTION)
    assert request(presence).is_file()
    assert not request(presence).is_symlink()
    assert elsewhere.read_bytes() == before


def make_link(path: Path) -> None:
    """Make a link to a file with the right word."""
    elsewhere = path.with_name("elsewhere")
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def make_fifo(path: Path) -> None:
    """Make a pipe without a writer."""
    path.unlink()
    os.mkfifo(path)


def make_folder(path: Path) -> None:
    """Make a folder."""
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("make", [make_link, make_fifo, make_folder])
def test_a_presence_file_is_plain(presence: Presence, make: Callable[[Path], None]) -> None:
    """A presence file that is a link, a fifo or a folder is refused, stays, and uses no try."""
    presence.path.write_text(presence.ask(ACTION))
    make(presence.path)
    with pytest.raises(OperatorError, match="remove it") as caught:
        presence.proven(ACTION)
    assert caught.value.rule is rules.PRESENCE_FILE
    assert presence.path.lstat()
    assert tries(presence) == 0


def test_a_presence_file_belongs_to_the_user(presence: Presence, monkeypatch: pytest.MonkeyPatch) -> None:
    """A presence file of another user is refused: it may be older than the folder's private mode."""
    presence.path.write_text(presence.ask(ACTION))
    inode, fstat = presence.path.stat().st_ino, os.fstat

    def foreign(descriptor: int) -> os.stat_result:
        found = fstat(descriptor)
        fields = list(found)
        fields[4] += found.st_ino == inode
        return os.stat_result(fields)

    monkeypatch.setattr(os, "fstat", foreign)
    with pytest.raises(OperatorError, match=f"user {os.geteuid() + 1}") as caught:
        presence.proven(ACTION)
    assert caught.value.rule is rules.PRESENCE_FILE
    assert tries(presence) == 0


def test_asking_removes_a_link_and_not_its_target(presence: Presence) -> None:
    """A request removes a link and not its target. A folder is refused, because it may contain files."""
    presence.path.write_text("content")
    make_link(presence.path)
    presence.ask(ACTION)
    assert presence.path.with_name("elsewhere").read_text() == "content"
    presence.path.mkdir()
    with pytest.raises(OperatorError) as caught:
        presence.ask(ACTION)
    assert caught.value.rule is rules.PRESENCE_FILE


def test_the_folder_of_the_request_is_no_link_and_private(presence: Presence, tmp_path: Path) -> None:
    """If the folder of the request is a link, or others may enter it, the request is refused."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "asmi").symlink_to(tmp_path / "elsewhere")
    for call in (presence.ask, presence.proven):
        with pytest.raises(OperatorError) as caught:
            call(ACTION)
        assert caught.value.rule is storage.STATE_LINK
    (tmp_path / "asmi").unlink()
    (tmp_path / "asmi").mkdir(mode=0o755)
    with pytest.raises(OperatorError) as caught:
        presence.ask(ACTION)
    assert caught.value.rule is storage.STATE_PRIVATE
