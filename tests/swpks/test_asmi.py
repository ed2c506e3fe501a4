"""`swpks asmi`: its output, its exit statuses, and the proof of presence that it needs before each erase."""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hcall_abi.errors import StorageError
from hcall_abi.rules import service as rules
from hcall_abi.rules import storage
from hcall_server.machine import logs
from hcall_server.service.state_folder import StateFolder
from swpks.cli import asmi
from swpks.cli.asmi import Eraser
from swpks.cli.main import main

ACTIONS = ("clear-all", "reset-settings")


class Erased:
    """A stand-in for the eraser: it records each call and erases nothing."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Path]] = []
        self.random: list[bytes] = []
        self.error: Exception | None = None

    def eraser(self, *_: object) -> Eraser:
        """Return an `Eraser` whose functions record their calls here."""
        return Eraser(
            lambda folder, action: [f"{action} takes all of {folder.name}.", "It stays away."],
            {action: lambda *given, action=action: self.erase(action, *given) for action in ACTIONS},
        )

    def erase(self, action: str, folder: Path, entropy: Any) -> str:
        """Record the call, or raise the planned error."""
        if self.error:
            raise self.error
        self.calls.append((action, folder))
        self.random.append(entropy(4))
        return f"{action}: done."


@pytest.fixture
def erased(monkeypatch: pytest.MonkeyPatch) -> Erased:
    """The stand-in that the command uses in place of the real eraser."""
    made = Erased()
    monkeypatch.setattr(asmi, "_eraser", made.eraser)
    return made


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder of a powered-off system."""
    held = StateFolder(tmp_path / "state")
    held.make()
    held.try_lock()
    held.close()
    return held.path


def word_in(output: str) -> str:
    """Return the word that the command has printed, and now expects."""
    found = re.search(r"^The word is (\w{12})$", output, re.MULTILINE)
    assert found, output
    return found[1]


def rule_in(error: str) -> str:
    """Return the id of the rule that a refusal names."""
    found = re.search(r"^swpks asmi [a-z-]+: .* fault; rule ([a-z.-]+): ", error)
    assert found, error
    return found[1]


@pytest.mark.parametrize("action", ACTIONS)
def test_two_calls_and_a_word_between_them(
    action: str, erased: Erased, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first call erases nothing and lists the losses.

    With the word in the file, the second call erases once.
    """
    assert main(["asmi", "--state", str(state), action]) == 4
    shown = capsys.readouterr()
    assert shown.err == ""
    assert f"  - {action} takes all of state.\n  - It stays away.\n" in shown.out
    assert f"write this word to {state / 'presence'}\nwithin 10 minutes" in shown.out
    assert erased.calls == []
    (state / "presence").write_text(f"{word_in(shown.out)}\n")
    assert main(["asmi", action, "--state", str(state)]) == 0
    assert capsys.readouterr() == (f"{action}: done.\n", "")
    assert erased.calls == [(action, state)]
    assert len(erased.random[0]) == 4
    assert sorted(path.name for path in state.rglob("*")) == ["asmi", "lock"]
    assert main(["asmi", "--state", str(state), action]) == 4
    assert erased.calls == [(action, state)]


def test_json(erased: Erased, state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --json, answers are objects on standard output, and refusals are objects on standard error."""
    command = ["asmi", "--state", str(state), "clear-all", "--json"]
    (state / "presence").touch()
    assert main(command) == 4
    asked = json.loads(capsys.readouterr().out)
    word = asked.pop("word")
    assert asked == {
        "action": "clear-all",
        "erased": False,
        "losses": ["clear-all takes all of state.", "It stays away."],
        "presence": str(state / "presence"),
        "seconds": 600.0,
        "tries": 3,
        "older_removed": True,
    }
    (state / "presence").write_text("WRONG")
    assert main(command) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    problem = json.loads(shown.err)
    assert problem.pop("detail").startswith(f"{state / 'presence'} held a wrong word")
    rule = rules.PRESENCE_WORD
    assert problem == {"fault": "operator", "rule_id": rule.id, "rule": rule.sentence, "section": rule.page}
    (state / "presence").write_text(word)
    assert main(command) == 0
    done = {"action": "clear-all", "erased": True, "text": "clear-all: done."}
    assert json.loads(capsys.readouterr().out) == done


def test_a_file_from_before_is_told(erased: Erased, state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """If the command removes an older file `presence`, its output says so."""
    (state / "presence").write_text("early")
    assert main(["asmi", "--state", str(state), "clear-all"]) == 4
    assert f"{state / 'presence'} was removed" in capsys.readouterr().out
    assert main(["asmi", "--state", str(state), "clear-all"]) == 4
    assert "was removed" not in capsys.readouterr().out


def test_a_wrong_word_erases_nothing(erased: Erased, state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """After three wrong words the command asks for a new word."""
    assert main(["asmi", "--state", str(state), "clear-all"]) == 4
    for _ in range(3):
        (state / "presence").write_text("WRONG")
        assert main(["asmi", "--state", str(state), "clear-all"]) == 1
        assert rule_in(capsys.readouterr().err) == rules.PRESENCE_WORD.id
    assert main(["asmi", "--state", str(state), "clear-all"]) == 4
    assert erased.calls == []


def test_the_word_of_the_other_action_erases_nothing(
    erased: Erased, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command removes a word that was printed for the other action, and asks for a new word."""
    assert main(["asmi", "--state", str(state), "reset-settings"]) == 4
    (state / "presence").write_text(word_in(capsys.readouterr().out))
    assert main(["asmi", "--state", str(state), "clear-all"]) == 4
    assert not (state / "presence").exists()
    assert erased.calls == []


def test_the_word_is_late(erased: Erased, state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """If the word comes after ten minutes, the command asks for a new word."""
    args = argparse.Namespace(state=state, action="clear-all", json=False)
    assert asmi.carry_out(args, erased.eraser(), lambda: 1000.0, os.urandom) == 4
    (state / "presence").write_text(word_in(capsys.readouterr().out))
    assert asmi.carry_out(args, erased.eraser(), lambda: 1600.0, os.urandom) == 4
    (state / "presence").write_text(word_in(capsys.readouterr().out))
    assert asmi.carry_out(args, erased.eraser(), lambda: 2199.0, os.urandom) == 0


def test_a_running_system_is_refused(erased: Erased, state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """While the system runs, the command is refused before it asks or writes anything."""
    server = StateFolder(state)
    server.make()
    server.try_lock()
    assert main(["asmi", "--state", str(state), "clear-all"]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert rule_in(shown.err) == storage.STATE_OWNER.id
    assert f"process {os.getpid()} uses {state}; power the system off" in shown.err
    assert [path.name for path in state.iterdir()] == ["lock"]
    server.close()


def test_the_lock_is_held_while_it_erases(
    erased: Erased, state: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """During an erase, a second command is refused. After a failed erase the folder is unlocked."""
    command = ["asmi", "--state", str(state), "clear-all"]
    assert main(command) == 4
    (state / "presence").write_text(word_in(capsys.readouterr().out))
    inner: list[int] = []

    def erase(*_: object) -> str:
        inner.append(main(command))
        raise StorageError(storage.STATE_DEVICE, "the device fails")

    monkeypatch.setattr(asmi, "_eraser", lambda _: Eraser(lambda *_: [], dict.fromkeys(ACTIONS, erase)))
    assert main(command) == 3
    first, second = capsys.readouterr().err.splitlines()
    assert inner == [1]
    assert rule_in(first) == storage.STATE_OWNER.id
    assert rule_in(second) == storage.STATE_DEVICE.id
    assert main(command) == 4


@pytest.mark.parametrize(
    "error,status",
    [
        (OSError(28, "No space left on device"), 3),
        (OSError(24, "Too many open files"), 1),
        (MemoryError(), 1),
    ],
    ids=["space", "descriptors", "memory"],
)
def test_an_erase_that_fails(
    error: Exception, status: int, erased: Erased, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A lack of space, descriptors or memory is reported with its rule.

    Any other OSError is raised as a bug.
    """
    for erased.error, expected in ((error, status), (OSError(22, "Invalid argument"), None)):
        assert main(["asmi", "--state", str(state), "clear-all"]) == 4
        (state / "presence").write_text(word_in(capsys.readouterr().out))
        if expected is None:
            with pytest.raises(OSError, match="Invalid"):
                main(["asmi", "--state", str(state), "clear-all"])
        else:
            assert main(["asmi", "--state", str(state), "clear-all"]) == expected
            assert rule_in(capsys.readouterr().err).startswith("scarce.")


@pytest.mark.parametrize(
    "words",
    [
        ["clear-all"],
        ["--state", "DIR"],
        ["--state", "DIR", "format"],
        ["--state", "", "clear-all"],
        ["--state", "DIR", "clear-all", "reset-settings"],
    ],
    ids=" ".join,
)
def test_usage(words: list[str], erased: Erased, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A usage error has status 2.  The folder is never guessed, not even from SWPKS_STATE."""
    monkeypatch.setenv("SWPKS_STATE", str(state))
    try:
        status: object = main(["asmi", *[word.replace("DIR", str(state)) for word in words]])
    except SystemExit as end:
        status = end.code
    assert status == 2
    assert [path.name for path in state.iterdir()] == ["lock"]


def test_a_folder_that_is_no_state(
    erased: Erased, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """If --state names a missing or wrong folder, the command makes nothing there."""
    assert main(["asmi", "--state", str(tmp_path / "state"), "clear-all"]) == 1
    assert rule_in(capsys.readouterr().err) == storage.STATE_EXISTS.id
    assert list(tmp_path.iterdir()) == []


def test_the_word_is_on_standard_output_alone(
    erased: Erased, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The word is in no file, no log line and no refusal."""
    log = io.StringIO()
    logs.configure(level="debug", style="json", stream=log)
    try:
        main(["asmi", "--state", str(state), "clear-all"])
        word = word_in(capsys.readouterr().out)
        for content in ("WRONG", f"{word}X", word.lower()):
            assert not any(word.encode() in path.read_bytes() for path in state.rglob("*") if path.is_file())
            (state / "presence").write_text(content)
            main(["asmi", "--state", str(state), "clear-all"])
            shown = capsys.readouterr()
            assert word.lower() not in (shown.out + shown.err).lower()
    finally:
        logs.configure(level="warning")
    assert word not in log.getvalue()


@pytest.mark.usefixtures("not_measured")
def test_only_this_command_loads_it() -> None:
    """Other commands do not import the code of `swpks asmi`, so they start quickly."""
    code = (
        "import contextlib, sys; from swpks.cli.main import main\n"
        "with contextlib.suppress(SystemExit): main(['hmc', '--help'])\n"
        "print([name for name in sys.modules if 'asmi' in name or 'presence' in name or 'erase' in name])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
