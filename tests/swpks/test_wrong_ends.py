"""Commands that are given the wrong folder or the wrong socket: the error names the right one."""

from __future__ import annotations

from pathlib import Path

import pytest

from hcall_abi.errors import OperatorError
from hcall_server.console.store import ConsoleStore
from hcall_server.service.locked import LockedState
from hcall_server.service.state import State
from swpks.cli.main import main
from swpks.hmc.store_folder import StoreFolder


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The store of a console that is down."""
    folder = tmp_path / "hmc"
    with StoreFolder(folder) as held:
        ConsoleStore(held.database).close()
    return folder


def told(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The error of a command that fails, one line before its rule."""
    assert main(list(map(str, words))) in (1, 2, 3)
    return capsys.readouterr().err


@pytest.mark.parametrize("use, rule", [(State, "state.empty"), (LockedState, "state.exists")])
def test_no_system_is_made_in_a_store(store: Path, use, rule: str) -> None:
    """Else the console would refuse its own store from then on; nothing is changed in it."""
    before = sorted(store.iterdir())
    with pytest.raises(OperatorError, match="is the store of a management console") as caught:
        use(store)
    assert caught.value.rule.id == rule
    assert sorted(store.iterdir()) == before
    StoreFolder(store).__exit__(None, None, None)


def test_a_store_that_is_given_as_a_state(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No advice starts a system in the store."""
    err = told(capsys, "hmc", "--state", store, "status")
    assert f"{store} is a console's store: use --store {store}" in err
    assert "swpks serve" not in err
    err = told(capsys, "lpar", "--state", store, "lpar1", "ls")
    assert f"{store} is a console's store: name the state of a system" in err


def test_a_state_that_is_given_as_a_store(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """No advice starts a console in the state."""
    (tmp_path / "state1" / "service-processor").mkdir(parents=True)
    for words in (["status"], ["lshmc", "-V"]):
        err = told(capfd, "hmc", "--store", tmp_path / "state1", *words)
        assert f"{tmp_path}/state1 is a system's state: use --state {tmp_path}/state1" in err
        assert "hmc serve" not in err
