"""The verbs of `swpks hmc` that do not use -m refuse it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hcall_server.service.state import State
from swpks.cli.main import main


@pytest.mark.parametrize(
    "words, reason",
    [
        (
            "replace tpm",
            "replace works on the folder of a powered-off system: name that system by --state DIR",
        ),
        ("add-system /x.sock", "add-system takes the name of the system with its place: add-system sys1=WH"),
        ("remove-system sys2", "remove-system takes the system as its operand: remove-system SYS"),
        ("systems", "systems lists all systems of the console"),
        ("jobs 1", "jobs are those of all systems, and the number of a job is enough"),
        ("links there", "the commands of the folder take -m themselves"),
        ("serve", "a console serves all of its systems: name a system by --system NAME=WHERE, after serve"),
    ],
)
def test_a_verb_does_not_ignore_m(
    words: str,
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """-m at a verb that does not use it is refused before anything is changed, on a state and on a store."""
    state, store = tmp_path / "lab", tmp_path / "hmc"
    State(state).close()
    (state / "tpm").mkdir(mode=0o700)
    (state / "tpm" / "seed").touch()
    monkeypatch.chdir(tmp_path)
    for name, folder in (("SWPKS_STATE", state), ("SWPKS_HMC", store)):
        monkeypatch.setenv(name, str(folder))
        assert main(["hmc", "-m", "sys1", *words.split()]) == 2
        told = capsys.readouterr().err
        assert f"-m does not go with {words.split(maxsplit=1)[0]}: {reason}" in told
        monkeypatch.delenv(name)
    assert (state / "tpm" / "seed").exists()
    assert sorted(tmp_path.iterdir()) == [state]
