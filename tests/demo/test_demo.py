"""The demo as users run it: a new process, with its output in a pipe."""

import ast
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.demo import seconds_of
from swpks.demo import story

COMMAND = [sys.executable, "-m", "swpks", "demo"]
LIMIT = 120
"""Seconds until a hanging demo is ended; it takes about ten, on a busy machine more."""

STEPS = [
    "The machine is switched on",
    "First IPL: every stage locks its objects",
    "The kernel makes a disk key and stores it",
    "The kernel encrypts a disk with the key",
    "The neighbour cannot read the key",
    "The power fails (kill -9)",
    "The next IPL after the power failure: no password is set",
    "The kernel gets its key back and opens the disk",
    "The boot loader's public keys: all consumers read them, only the owner changes them",
    "An immutable object cannot be removed",
    "Secure boot is switched off",
    "Secure boot is enforced again",
    "One bit of NVRAM is flipped",
    "The anchor card is pulled, and a new one is put in",
    "A change is encrypted and stored; CONFIRM reports it",
    "The console gets a copy of the store",
    "The TPM is pulled, and a new one is put in",
    "Card and TPM are lost at once",
    "Secure erase: Clear All, then reset-settings",
    "A new, empty system starts",
    "The old copy does not open",
    "The store is restored with the operator's key",
    "A management console is attached to the running system",
    "The service processor is replaced while its console watches",
    "A profile backup, and a later update of the guest",
    "The profile backup is restored: the update is lost, as announced",
    "The partition moves to another system while a client writes",
    "The other system is killed, and the partition is restarted remotely",
    "The killed system starts again: it asks the console, and does not serve",
]

START_STEPS = [
    "step 1: anchor card: new",
    "step 2: NVRAM: root-key/1: read",
    "step 3: tpm (embedded): holds the key",
    "step 4: copies compared: card-replaced; go on",
    "step 4: anchor-card: restored: it was new; written from a wrapped copy",
    "step 5: NVRAM: 6 records were read",
    "step 6: 2 partitions decrypted, of commit",
    "step 7: the keystores are ready",
]
"""Beginnings of the output lines of a start with a new card, in order."""

TOLD = [
    "✓ NVRAM hangs: CONFIRM says pending",
    "✓ step 8: NVRAM works again: CONFIRM says flushed",
    "✓ step 9: the copy has ",
    "✓ the decision: tpm-replaced",
    "- swpks serve: no copy of the root key is readable",
    "✓ the start stops with exit status 3",
    "✓ clear-all without a word: exit status 4",
    "✓ clear-all with the word in the presence file: exit status 0",
    "✓ a start in between: state Reset pending",
    "✓ reset-settings without a word: exit status 4",
    "✓ reset-settings with the word in the presence file: exit status 0",
    "✓ its partitions: none",
    "✓ the copy is refused: ",
    "✓ the sealed blob of the key is refused: ",
    "✓ the secret that was written before the copy is there",
    "✓ its first lines: the system is called lab and serves lpar1",
    "✓ the system is connected to its console",
    "✓ the console has a copy of the store of generation ",
    "✓ none of its files shows an object or the key of the copies",
    "✓ the start finds no records: state Recovery",
    "| lpar1: from ",
    "| lab is Operating, with 1 restored store",
    "✓ the console has restored the store without an order",
    "✓ the state is Operating, the system is lab, with lpar1",
    "✓ one object is changed, another one is new",
    "| lpar1: back to ",
    "| SWPK0226 this would be lost: lpar1: back to ",
    "✓ refused, with a list of the losses",
    "✓ nothing was changed",
    "✓ forced: the same loss is announced",
    "✓ contents go back, counters do not: ",
    "✓ the changed object is as in the snapshot",
    "✓ reading the new object: refused with H_NOT_FOUND",
    "| row 1: OPEN(1) at the console",
    "✓ the client has followed 1 move, without an error",
    "✓ the move was no IPL: the count is ",
    "✓ the source has no socket of lpar1 any more",
    "✓ spare serves lpar1",
    "| row 20: FORCED(2) at the console",
    "✓ lab serves lpar1 again",
    "✓ spare has no socket of lpar1",
    "| lpar1 is removed from spare: lab has it",
    "✓ after the cleanup spare has no partition",
    "✓ lab still serves the guest",
]
"""Beginnings of the output lines of the later acts, in order."""

# SPY runs all steps of the demo. It adds steps that record the root key and access keys around the erase, and
# a last one that records all other secrets and both logs. The test searches for these secrets.
SPY = """
import json, sys
from base64 import b64encode
from hcall_server.components.anchor_card import AnchorCard
from swpks.demo import story
from swpks.demo.run import play

found = {{}}

def note(name, secret):
    found[name] = [secret.hex(), secret.hex().upper(), repr(secret)[2:-1], b64encode(secret).decode()]

def note_keys(run, when):
    card = AnchorCard(run.server.state / "anchor-card").read()
    note("root key, " + when, card.identity.root_key)
    for path in (run.server.state / "access-keys").glob("*.key"):
        note(path.name + ", " + when, run.server.access_key(path.stem))

async def spy_early(run):
    note_keys(run, "before")

async def spy(run):
    note_keys(run, "after")
    note("disk key", run.disk_key)
    note("late secret", run.late_secret)
    note("update", run.update)
    note("trusted system key", run.trusted_key)
    found["note"] = [run.note.decode()[40:]]
    found["words"] = run.words
    with open({path!r}, "w") as file:
        json.dump([found, run.server.log + run.hmc.log + run.spare.log], file)

first, *others = story.STEPS
sys.exit(play(steps=(first, spy_early, *others, spy)))
"""

SECRETS = {
    "root key, before",
    "lpar1.key, before",
    "lpar2.key, before",
    "root key, after",
    "lpar1.key, after",
    "disk key",
    "late secret",
    "update",
    "trusted system key",
    "note",
    "words",
}
"""Names of the secrets that the spies note."""
PIECE = 12
"""A leak is this number of characters in a row: a whole word of the erase, or 6 bytes in hexadecimal."""

# SHORT runs the first two steps of the demo, and a step of the test between them.
SHORT = """
import sys, trio
from swpks.demo import story
from swpks.demo.run import play

async def ours(play):
    {step}

first, second, *_ = story.STEPS
sys.exit(play(steps=(first, ours, second)))
"""

# UNWATCHED runs the command `swpks demo`. The reader of its output leaves after the first step.
UNWATCHED = """
import os, sys
from swpks.cli.main import main
from swpks.demo import story

async def leave(play):
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, 1)

first, second, *_ = story.STEPS
story.STEPS = (first, leave, second)
sys.exit(main(["demo"]))
"""


def play(
    folder: Path, *options: str, command: list[str] | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a demo whose temporary files are in `folder`."""
    return subprocess.run(
        [*(command or COMMAND), *options], capture_output=True, text=True, encoding="utf-8", timeout=LIMIT,
        check=False, env={**os.environ, "TMPDIR": str(folder), **environment},
    )  # fmt: skip


def steps_of(output: str) -> list[str]:
    return re.findall(r"^ ?\d+\. (.*)$", output, re.MULTILINE)


def said(output: str) -> list[str]:
    """Return the lines of the output; a line that continues another one is joined to it."""
    joined = re.sub(r"\n {6}(?=\S)", " ", output)
    return [line.strip() for line in joined.splitlines()]


def in_order(beginnings: list[str], lines: list[str]) -> list[str]:
    """Return the expected beginnings of lines that the output does not have in this order."""
    rest = iter(lines)
    return [each for each in beginnings if not any(line.startswith(each) for line in rest)]


def servers_in(folder: Path) -> list[str]:
    """Return the command lines of all processes that name this folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().decode("utf-8", "replace")
        except OSError:
            continue
        if str(folder) in line:
            found.append(line)
    return found


def nothing_left(folder: Path) -> None:
    assert list(folder.iterdir()) == [], "the temporary folder is gone"
    assert servers_in(folder) == [], "the server is gone"


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder with a short name, because the path of a socket has at most 107 bytes."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.mark.process
@pytest.mark.slow
def test_all_of_it_holds_and_nothing_secret_is_told(tmp_path: Path) -> None:
    """The output has every step, and every claim holds. Plain output and log contain no secret.

    R-01 to R-04, R-08, R-10 to R-13, R-21, R-45, R-46, R-51, R-52 and R-54, on real processes.
    """
    temporary = tmp_path / "t"
    temporary.mkdir()
    secrets_file = tmp_path / "secrets"
    spy = SPY.format(path=str(secrets_file))
    done = play(temporary, command=[sys.executable, "-c", spy])
    assert done.returncode == 0, done.stdout + done.stderr
    assert steps_of(done.stdout) == STEPS
    assert "✗" not in done.stdout
    assert re.search(r"^all \d+ checks held, 29 steps, \d+\.\d s$", done.stdout, re.MULTILINE)
    assert seconds_of(done.stdout) > 0, "the benchmark reads this line"
    assert done.stdout.endswith(f"\n{story.NEXT}\n")
    assert "\x1b" not in done.stdout
    assert done.stderr == ""
    lines = said(done.stdout)
    assert in_order([f"- {step}" for step in START_STEPS], lines) == []
    assert in_order(TOLD, lines) == []
    reported = "\n".join([done.stdout, *lines])
    found, log = json.loads(secrets_file.read_text())
    assert found.keys() == SECRETS
    assert len(found["words"]) == 2
    for name, forms in found.items():
        for hidden in forms:
            assert len(hidden) >= PIECE
            pieces = {hidden[at : at + PIECE] for at in range(len(hidden) - PIECE + 1)}
            assert not any(piece in reported for piece in pieces), f"{name} was printed"
            assert not any(piece in log for piece in pieces), f"{name} was logged"
    nothing_left(temporary)


@pytest.mark.process
@pytest.mark.slow
def test_without_cryptsetup_it_plays_with_an_aes_file_in_a_folder_that_it_keeps(tmp_path: Path) -> None:
    """Without cryptsetup the demo uses an AES file.

    A folder that the user names stays, with state, disk and log.
    """
    temporary, folder = tmp_path / "t", tmp_path / "new" / "folder"
    temporary.mkdir()
    done = play(temporary, "--state", str(folder), PATH="")
    assert done.returncode == 0, done.stdout + done.stderr
    assert steps_of(done.stdout) == STEPS
    assert "the disk is an AES-256-GCM file, because cryptsetup is not installed here" in done.stdout
    assert "step 3: tpm (embedded): holds the key" in done.stdout, "no other program is needed"
    assert f"kept: {folder}" in done.stdout
    assert {"state", "state.log", "disk.img", "console", "console.log", "spare", "spare.log"} <= {
        path.name for path in folder.iterdir()
    }
    assert folder.stat().st_mode & 0o777 == 0o700
    assert servers_in(folder) == []
    nothing_left(temporary)


@pytest.mark.process
def test_one_claim_that_does_not_hold_makes_the_exit_status_1(tmp_path: Path) -> None:
    failing = SHORT.format(step="play.stage.check('the moon is a cheese', held=False)")
    done = play(tmp_path, command=[sys.executable, "-c", failing])
    assert done.returncode == 1, done.stdout + done.stderr
    assert "✗ the moon is a cheese" in done.stdout
    assert "\n1 of " in done.stdout
    assert story.NEXT not in done.stdout
    assert steps_of(done.stdout) == STEPS[:2], "the story goes on"
    nothing_left(tmp_path)


@pytest.mark.process
def test_a_step_that_breaks_ends_the_story_with_1(tmp_path: Path) -> None:
    """If a step finds its server dead, the demo ends with status 1."""
    breaking = SHORT.format(step="play.server.kill()")
    done = play(tmp_path, command=[sys.executable, "-c", breaking])
    assert done.returncode == 1, done.stdout + done.stderr
    assert "✗ the step could be played to its end (ConnectionLost: " in done.stdout
    assert steps_of(done.stdout) == STEPS[:2]
    nothing_left(tmp_path)


DEFAULT = {
    signal.SIGINT: "default_int_handler",
    signal.SIGTERM: "SIG_DFL",
    signal.SIGHUP: "SIG_DFL",
}


@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_demo_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    """If a signal comes while a step waits, the demo stops its server and removes its folder."""
    waiting = SHORT.format(step="print('waiting', flush=True); await trio.sleep_forever()")
    # The parent may run under nohup, so the program restores the signal's default action.
    waiting = f"import signal; signal.signal(signal.{number.name}, signal.{DEFAULT[number]})\n{waiting}"
    running = subprocess.Popen(
        [sys.executable, "-c", waiting], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        encoding="utf-8", env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert running.stdout is not None
    assert "waiting\n" in running.stdout
    assert servers_in(tmp_path) != []
    running.send_signal(number)
    try:
        _, complaints = running.communicate(timeout=LIMIT)
    finally:
        running.kill()
    assert running.returncode == 130, complaints
    assert complaints == "swpks demo: interrupted\n"
    nothing_left(tmp_path)


@pytest.mark.process
def test_a_demo_that_nobody_watches_ends_and_leaves_nothing(tmp_path: Path) -> None:
    """If its reader leaves, as in `swpks demo | head`, the demo ends without an error and cleans up."""
    done = play(tmp_path, command=[sys.executable, "-c", UNWATCHED])
    assert (done.returncode, done.stderr) == (1, "")
    assert steps_of(done.stdout) == STEPS[:1]
    nothing_left(tmp_path)


@pytest.mark.process
def test_a_folder_that_is_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    done = play(tmp_path, "--state", str(tmp_path))
    assert done.returncode == 2
    assert "is not empty" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


WAITS = {"sleep", "sleep_until", "sleep_forever"}
"""Functions that wait without a condition."""


def test_no_act_waits_for_a_fixed_time() -> None:
    """Each step waits for an event with a time limit, and never for a fixed time."""
    calls = {
        (path.name, getattr(call.func, "attr", getattr(call.func, "id", "")))
        for path in Path(story.__file__).parent.glob("*.py")
        for call in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(call, ast.Call)
    }
    assert len(calls) > 100
    assert [each for each in calls if each[1] in WAITS] == []


def test_the_story_is_the_one_that_is_tested() -> None:
    assert len(story.STEPS) == len(STEPS)
