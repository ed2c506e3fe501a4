"""Steps after the loss of card and TPM: the start fails, the operator erases all, and a new system starts."""

from __future__ import annotations

import json
import stat
import subprocess

from hcall_client.console import show_components, show_system
from swpks.demo.parts import CARD, TPM
from swpks.demo.play import PARTITION, Play

_NVRAM = "service-processor"
_PARTS = (CARD, TPM, _NVRAM, "removed")
"""Folders of the state that a refused start, and an erase without its word, must not change."""
_STORAGE, _PRESENCE_NEEDED = 3, 4
"""Exit statuses: of `swpks serve` if the storage fails, of `swpks asmi` if it has printed a word."""


async def lose_both(play: Play) -> None:
    """Replace card and TPM at once; the next start must fail with a reason, and must change no file."""
    shows = (
        "No readable copy of the root key is left. With a new key the stores would be unreadable for ever."
    )
    with play.stage.step("Card and TPM are lost at once", shows):
        play.system_id = play.server.console.call(show_system()).system_id
        await play.power_off()
        play.access_key = play.server.access_key(PARTITION)
        play.console("replace", CARD)
        play.console("replace", TPM)
        before = _files(play, *_PARTS)
        done = _serve(play)
        sentence = done.stderr.decode("utf-8", "replace").strip()
        play.stage.say(sentence)
        play.stage.check(f"the start stops with exit status {done.returncode}", done.returncode == _STORAGE)
        named = "anchor card: new" in sentence and "copy of tpm: does not unwrap" in sentence
        play.stage.check("its message names both parts, and the rule root-key.readable",
                         named and "root-key.readable" in sentence)  # fmt: skip
        play.stage.check("nothing was changed: all files of the parts are as before",
                         _files(play, *_PARTS) == before)  # fmt: skip


async def erase(play: Play) -> None:
    """Run Clear All and reset-settings; each needs the word that the command has printed."""
    shows = "The erase destroys data. A person has to confirm it: by the word that the command prints."
    with play.stage.step("Secure erase: Clear All, then reset-settings", shows):
        nvram = _files(play, _NVRAM)
        _erase(play, "clear-all")
        play.stage.check("the removed parts are destroyed, and so is the old card with its key",
                         not (play.server.state / "removed").exists())  # fmt: skip
        play.server.start()
        state = play.server.ready["state"]
        play.stage.check(f"a start in between: state {state}, no partition is served",
                         state == "Reset pending" and not play.server.ready["sockets"])  # fmt: skip
        await play.power_off()
        _erase(play, "reset-settings")
        play.stage.check("no file of the old NVRAM is left", not nvram.items() & _files(play, _NVRAM).items())
        keys = list((play.server.state / "access-keys").glob("*.key"))
        play.stage.check("no access key is left", not keys)


async def start_new(play: Play) -> None:
    """Start the system without partitions, because the copies need the names of the old ones."""
    shows = "A system with a new root key, a new identity and no partition."
    with play.stage.step("A new, empty system starts", shows):
        # The configuration names both partitions, so a start would make them new.  But the copies need these
        # names, so the configuration is dropped.
        play.server.options.clear()
        play.server.start()
        system = play.server.console.call(show_system())
        play.stage.say(f"system {system.system_id}, before it was {play.system_id}")
        new = system.state == "Operating" and system.system_id != play.system_id
        play.stage.check(f"the state is {system.state}, and the system id is a new one", new)
        names = [each.name for each in system.partitions]
        play.stage.check(f"its partitions: {' '.join(names) or 'none'}", not names)
        text = play.server.console.call(show_components())
        agree = [each.name for each in text.components if each.copy == "agrees"]
        play.stage.check(f"the new root key is stored in {' and '.join(agree)}", agree == [CARD, TPM])


def _serve(play: Play) -> subprocess.CompletedProcess[bytes]:
    """Run a server that has to fail at its start; add its messages to the log."""
    done = play.server.run("serve", "--state", str(play.server.state), *play.server.options)
    with play.server.log_path.open("ab") as log:
        log.write(done.stderr)
    return done


def _erase(play: Play, action: str) -> None:
    """Run an erase twice: the first run prints a word, and the second run erases.

    Between the runs, the word is written to the presence file.
    """
    play.stage.say(f"swpks asmi --state ... {action}")
    before = _files(play, *_PARTS)
    first = _asmi(play, action)
    asked = json.loads(first.stdout)
    word, presence = asked["word"], play.server.state / "presence"
    play.words.append(word)
    for loss in asked["losses"]:
        play.stage.say(f"it will destroy: {loss}")
    play.stage.check(f"{action} without a word: exit status {first.returncode}, nothing is erased",
                     first.returncode == _PRESENCE_NEEDED and _files(play, *_PARTS) == before)  # fmt: skip
    presence.touch(stat.S_IRUSR | stat.S_IWUSR)
    presence.write_text(f"{word}\n", "ascii")
    second = _asmi(play, action)
    erased = second.returncode == 0 and json.loads(second.stdout)["erased"]
    play.stage.check(f"{action} with the word in the presence file: exit status {second.returncode}", erased)
    play.stage.check("the word is valid once: the file is deleted", not presence.exists())


def _asmi(play: Play, action: str) -> subprocess.CompletedProcess[bytes]:
    return play.server.run("asmi", "--state", str(play.server.state), "--json", action)


def _files(play: Play, *folders: str) -> dict[str, bytes]:
    """Return the content of all files in these folders of the state, by path."""
    found = (path for folder in folders for path in (play.server.state / folder).rglob("*"))
    return {str(path): path.read_bytes() for path in found if path.is_file()}
