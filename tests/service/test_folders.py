"""A wrong path of a state or a store: the folder that was probably meant, and the refusals that name it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hcall_abi.errors import OperatorError, StorageError
from hcall_server.data_channel.sockets import listen_unix
from hcall_server.folders import FolderKind, kind_of, near_folders, question_of
from hcall_server.service.layout import make_service_processor
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


@pytest.mark.usefixtures("here")
def test_a_command_for_a_standby(capsys: pytest.CaptureFixture[str]) -> None:
    """R-85: a standby has no socket yet; the error says so, and names the option of a start."""
    Path("state/service-processor/nvram.etcd-mark").touch()
    assert main(["hmc", "status", "--state", "state"]) == 3
    told = capsys.readouterr().err
    assert "; a standby serves when it owns NVRAM on etcd, see its log; or start one: swpks serve " in told
    assert "--state state --nvram ... [" in told


@pytest.mark.usefixtures("here")
def test_a_command_with_a_socket_as_the_state(capsys: pytest.CaptureFixture[str]) -> None:
    """For a file in the folder `run`, the error names the state."""
    Path("state/run/lpar1.sock").touch()
    assert main(["lpar", "lpar1", "config", "--state", "state/run/lpar1.sock"]) == 3
    assert "did you mean --state state?" in capsys.readouterr().err


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


@pytest.fixture
def whole(here: Path) -> Path:
    """The state `state` after a first start: it has its lock, NVRAM and an anchor card."""
    state = here / "state"
    (state / "lock").touch(mode=0o600)
    (state / "service-processor" / "nvram.sqlite").write_bytes(b"stores")
    (state / "anchor-card").mkdir(mode=0o700)
    (state / "anchor-card" / "anchor-card").write_bytes(b"card")
    return state


def entries(folder: Path) -> list[str]:
    """Return all paths below a folder."""
    return sorted(str(each.relative_to(folder)) for each in folder.rglob("*"))


@pytest.mark.parametrize("part", ["service-processor", "anchor-card"])
@pytest.mark.parametrize("lock", [False, True])
def test_a_part_of_a_state_is_no_state(whole: Path, part: str, lock: bool) -> None:
    """A start on a part is refused, with a lock too. It moves no files, and nothing advises a lock."""
    if lock:
        (whole / part / "lock").touch(mode=0o600)
    before = entries(whole)
    right = f"{whole / part} is inside of the state state; did you mean --state state?"
    assert refusal(State, f"state/{part}") == right
    assert refusal(LockedState, f"state/{part}") == right
    assert entries(whole) == before


def test_nvram_outside_of_its_state(whole: Path, here: Path) -> None:
    """A part that was moved out of its state is not called a copy of a state."""
    (whole / "service-processor").rename(here / "service-processor")
    told = refusal(State, "service-processor")
    assert "touch" not in told
    assert "--state service-processor" not in told


def test_an_older_layout_is_not_moved_inside_of_a_state(whole: Path) -> None:
    """NVRAM at the top of a part stays there, whoever asks for the move."""
    with pytest.raises(StorageError, match=f"is inside of {whole}: move"):
        make_service_processor(whole / "service-processor")
    assert (whole / "service-processor" / "nvram.sqlite").read_bytes() == b"stores"


@pytest.mark.parametrize("inner", ["state/run", "state/run/lpar1.sock", "state/a/b/c/d", "state/a/../run"])
@pytest.mark.parametrize("use, remedy", [(State, "did you mean --state state?"), (StoreFolder, "choose a ")])
def test_a_new_folder_inside_of_a_state(whole: Path, use: object, remedy: str, inner: str) -> None:
    """Neither a state nor a store is made inside of a state, and no folder stays behind."""
    before = entries(whole)
    assert f" is inside of the state state; {remedy}" in refusal(use, inner)
    assert entries(whole) == before


@pytest.mark.usefixtures("whole")
def test_no_start_inside_of_a_state_is_advised(capsys: pytest.CaptureFixture[str]) -> None:
    """A command for a missing folder inside of a state names the state alone."""
    assert main(["lpar", "lpar1", "config", "--state", "state/run/lpar1.sock"]) == 3
    told = capsys.readouterr().err
    assert "did you mean --state state? [" in told
    assert "swpks serve" not in told


def test_a_new_folder_inside_of_a_store(here: Path) -> None:
    """Neither a state nor a store is made inside of a store."""
    assert refusal(StoreFolder, "hmc/run").endswith(" is inside of the store hmc; did you mean --store hmc?")
    assert refusal(State, "hmc/new").endswith(" is inside of the store hmc; choose a folder outside of it")
    assert entries(here / "hmc") == ["console.sqlite"]


def test_a_system_that_is_inside_of_a_state_already(whole: Path) -> None:
    """Its stores stay in reach. A state with the name of a part hinders no state beside it."""
    inner = whole / "run" / "lab"
    (inner / "service-processor").mkdir(mode=0o700, parents=True)
    inner.chmod(0o700)
    (inner / "lock").touch(mode=0o600)
    State(inner).close()
    whole.rename(whole.with_name("service-processor"))
    State(Path("other")).close()


def test_a_folder_in_the_place_of_a_socket(tmp_path: Path) -> None:
    """The refusal says what is there, and the way out."""
    (tmp_path / "b.sock").mkdir()
    with pytest.raises(OperatorError, match=r"is in the way .*: it is a folder; move it away"):
        listen_unix(tmp_path / "b.sock")
