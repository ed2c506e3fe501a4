"""Damage to parts that the whole system needs: a start is refused with the reason, and writes nothing."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hcall_server.machine import logs
from hcall_server.nvram.names import COMMIT, SYSTEM
from swpks.cli.main import main
from swpks.testing import ServerProcess
from tests.faults.conftest import Serve
from tests.faults.damage import contents, copy_of, flipped, make_state, put, records, serves

OPERATOR, STORAGE = 2, 3
CARD = Path("anchor-card/anchor-card")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undamaged state."""
    return make_state(tmp_path_factory.mktemp("sound"), ["lpar1", "lpar2"])


def put_file(path: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Return a function that changes one file of a state."""

    def damage(state: Path) -> None:
        file = state / path
        file.write_bytes(change(file.read_bytes()))

    return damage


def without(*parts: Path) -> None:
    """Remove some parts of a state."""
    for part in parts:
        shutil.rmtree(part)


def damaged_card(state: Path) -> Path:
    """Damage the card; return the folder `removed`, which is new and empty."""
    put_file(str(CARD), lambda card: flipped(card, 30))(state)
    (state / "removed").mkdir(mode=0o700)
    return state / "removed"


def put_system(blob: bytes | None) -> Callable[[Path], None]:
    """Return a function that changes the system record."""
    return lambda state: put(state, {SYSTEM: blob})


CASES = {
    "card and TPM missing": (
        lambda state: without(state / "anchor-card", state / "tpm"),
        STORAGE,
        "no copy of the root key is readable",
    ),
    "card damaged, TPM missing": (
        lambda state: without(damaged_card(state), state / "tpm"),
        STORAGE,
        "anchor card: .* damaged",
    ),
    "card open to the group": (lambda state: (state / CARD).chmod(0o640), OPERATOR, "anchor card: .*0640"),
    "card folder open": (lambda state: (state / CARD).parent.chmod(0o755), OPERATOR, "anchor card: .*0755"),
    "card a link": (
        lambda state: (state / CARD).rename(state / "card") and (state / CARD).symlink_to(state / "card"),
        OPERATOR,
        "anchor-card is a symbolic link to ",
    ),
    "system record missing": (put_system(None), STORAGE, "the system record is missing"),
    "system record damaged": (put_system(b"SPKS" + bytes(100)), STORAGE, "the system record: "),
    "nvram truncated": (
        put_file("service-processor/nvram.sqlite", lambda nvram: nvram[:5000]),
        STORAGE,
        "nvram.sqlite is damaged",
    ),
    "nvram no database": (
        put_file("service-processor/nvram.sqlite", lambda nvram: b"x" * 8192),
        STORAGE,
        "is damaged",
    ),
    "mark damaged": (
        put_file("service-processor/nvram.sqlite-mark", lambda mark: bytes(len(mark))),
        STORAGE,
        "no high-water mark of this system",
    ),
    "commit record missing": (
        lambda state: put(state, {COMMIT: None}),
        STORAGE,
        "the commit record is missing",
    ),
    "state open to others": (lambda state: state.chmod(0o755), OPERATOR, "mode 0755"),
}


@pytest.fixture
def quiet() -> Iterator[None]:
    """Restore the settings of the log after the test, because a command in this process changes them."""
    yield
    logs.configure(level="warning")


@pytest.mark.parametrize("name", CASES)
@pytest.mark.usefixtures("quiet")
def test_a_start_on_a_wrecked_system(
    sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """R-02, R-22: exit status and message say what is at fault; no byte of the state has changed.

    The command runs twice in this process, so a refused start must release everything.
    """
    damage, status, message = CASES[name]
    state = copy_of(sound, tmp_path / "state")
    damage(state)
    before = contents(state)
    for _ in range(2):
        assert main(["serve", "--debuggable", "--state", str(state), "--partition", "lpar3:4"]) == status
        error = capsys.readouterr().err
        assert re.fullmatch(rf"swpks serve: .*{message}.* \[.*; rule [a-z.-]+: .*; see spec/.*\]\n", error), (
            error
        )
        assert contents(state) == before


@pytest.mark.process
def test_the_card_of_another_system(serve: Serve, sound: Path, tmp_path: Path) -> None:
    """R-02: with the card of another system, the start is refused and changes nothing.

    With its own card it succeeds.
    """
    state = copy_of(sound, tmp_path / "state")
    (tmp_path / "other").mkdir()
    other = make_state(tmp_path / "other", ["lpar1"])
    own, foreign = (state / CARD).read_bytes(), (other / CARD).read_bytes()
    (state / CARD).write_bytes(foreign)
    before = contents(state)
    done = ServerProcess(state).run("serve", "--state", str(state))
    assert done.returncode == STORAGE
    assert b"differ: the records open with the key of the copy of tpm" in done.stderr
    assert b"Traceback" not in done.stderr
    assert contents(state) == before
    (state / CARD).write_bytes(own)
    server = serve(state)
    assert serves(server, "lpar1")
    assert serves(server, "lpar2")
    assert server.stop() == 0
    assert records(state).keys() == records(sound).keys()
