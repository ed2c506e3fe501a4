"""A wrong path of a state or a store: the folder that was probably meant, and the refusals that name it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hcall_abi.errors import OperatorError
from hcall_server.folders import FolderKind, kind_of, near_folders, question_of
from hcall_server.service.locked import LockedState
from hcall_server.service.state import State
from swpks.cli.main import main
from swpks.hmc.store_folder import StoreFolder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with the state `state` and the store `hmc`; `bare` is an empty folder."""
    for folder in ("state", "state/run", "state/service-processor", "state/removed", "hmc", "bare"):
        (tmp_path / folder).mkdir(mode=0o700)
    (tmp_path / "state" / "removed" / "tpm.1").mkdir()
    (tmp_path / "hmc" / "console.sqlite").touch()
    (tmp_path / "note").touch()
    tmp_path.chmod(0o700)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_kinds_of_folders(here: Path) -> None:
    """A state is known by its parts, in each layout, and a store by its database."""
    (here / "old").mkdir()
    (here / "old" / "nvram.sqlite").touch()
    kinds = {name: kind_of(Path(name)) for name in ("state", "old", "hmc", "bare", "note", "nowhere", "a\0b")}
    of_none = dict.fromkeys(("bare", "note", "nowhere", "a\0b"))
    assert kinds == {"state": FolderKind.STATE, "old": FolderKind.STATE, "hmc": FolderKind.STORE, **of_none}


@pytest.mark.parametrize("wrong", [".", "state/run", "state/removed/tpm.1", "state/nowhere", "stat", "State"])
def test_the_state_that_was_meant(here: Path, wrong: str) -> None:
    """A folder above a state, in one, or of a similar name means this state. It is shown as it is typed."""
    assert near_folders(Path(wrong), FolderKind.STATE) == [here / "state"]
    assert question_of(Path(wrong)) == "; did you mean --state state?"


def test_no_state_was_meant(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder and a path of another name mean no state; a store is no state."""
    assert (
        not question_of(Path("bare")) + question_of(Path("nowhere")) + question_of(Path("/proc/1/fdinfo/1"))
    )
    assert question_of(Path(), FolderKind.STORE) == "; did you mean --store hmc?"
    monkeypatch.chdir("state/run")
    assert question_of(Path()) == f"; did you mean --state {here / 'state'}?"


@pytest.mark.parametrize("command", ["lpar lpar1 config", "hmc status", "hmc ipl lpar1"])
@pytest.mark.parametrize(
    "state, advice",
    [
        (".", "; . is no state of a system; did you mean --state state? ["),
        ("state/run", "; state/run is no state of a system; did you mean --state state? ["),
        ("state/removed", "; state/removed is no state of a system; did you mean --state state? ["),
        ("stat", " (there is no folder stat); did you mean --state state?; or start one: swpks serve --st"),
        ("elsewhere", " (there is no folder elsewhere); start one: swpks serve --state elsewhere ["),
        ("bare", "; start one: swpks serve --state bare ["),
        ("note", "; note is a file and no folder ["),
        ("state", "; start one: swpks serve --state state ["),
    ],
)
@pytest.mark.usefixtures("here")
def test_a_command_with_a_wrong_state(
    command: str, state: str, advice: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A command never advises to start a server where a server refuses to start."""
    assert main([*command.split(), "--state", state]) == 3
    told = capsys.readouterr().err
    assert advice in told


def refusal(use: object, folder: str) -> str:
    """Return the message of a folder that is refused."""
    with pytest.raises(OperatorError) as caught:
        use(Path(folder))  # type: ignore[operator]
    return caught.value.message


@pytest.mark.usefixtures("here")
def test_a_start_on_a_wrong_folder() -> None:
    """`serve`, `asmi`, `hmc replace` and `hmc serve` name the folder that was probably meant."""
    assert refusal(State, ".").endswith(" holds other things; did you mean --state state?")
    assert refusal(State, "state/removed").endswith(" holds other things; did you mean --state state?")
    assert refusal(LockedState, "state/run").endswith(" is no state of a system; did you mean --state state?")
    assert refusal(State, "note/below").endswith("/note is a file, not a folder; choose a new folder")
    assert refusal(LockedState, "note").endswith(
        "/note is no state of a system: name the folder of --state of the server"
    )
    assert refusal(StoreFolder, ".").endswith(" holds other things; did you mean --store hmc?")


def test_a_copy_of_a_state_without_its_lock(here: Path) -> None:
    """The remedy makes the copy a state again; it is not "other things"."""
    assert refusal(State, "state").endswith(f"if it is a whole copy of a state: touch {here}/state/lock")
    (here / "state" / "lock").touch(mode=0o600)
    State(Path("state")).close()
