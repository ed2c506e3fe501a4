"""Changes to a system while it is off, and its next start: one scene for each row of the decision table.

A scene changes the parts of a `Stage`; `tests.parts.test_rows` runs them with a real server.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from hcall_server.service.erase import clear_all
from tests.components.swtpm import Swtpm
from tests.parts.systems import System
from tests.service.folder import old_state

PARTS = ("anchor-card", "service-processor", "tpm")
OLD_DATA = b"the data of alpha" * 20
"""The object of alpha in the states of 89ecc72."""


class Stage:
    """The systems of one scene: the scene changes `system`, and takes parts from `other`."""

    def __init__(self, folder: Path, originals: Mapping[str, System]) -> None:
        self.folder = folder
        self.originals = originals
        self.original = "ours"
        self.system = System(folder / "none")
        self.swtpm: Swtpm | None = None

    @property
    def other(self) -> System:
        return self.originals["other"]

    def begin(self, original: str) -> None:
        """Copy an original system to the stage. If its name begins with `swtpm`, start a copy of its TPM."""
        self.original = original
        self.system = self.originals[original].copied(self.folder / "state")
        if original.startswith("swtpm"):
            self.swtpm = copied_tpm(self.originals[original].state.with_name("tpm-state"), self.folder / "t")
            remember(self.system, "tpm", self.swtpm)

    def end(self) -> None:
        self.system.server.kill()
        if self.swtpm:
            self.swtpm.kill()

    def silence(self) -> None:
        assert self.swtpm is not None
        self.swtpm.stop()

    def remove(self, *parts: str) -> None:
        for part in parts:
            self.system.remove(part)

    def exchange(self, *parts: str) -> None:
        for part in parts:
            self.system.take(part, self.other)

    def exchange_card(self) -> None:
        """Insert the card of another system, and a new TPM."""
        self.exchange("anchor-card")
        self.remove("tpm")

    def damage_card(self, *removed: str) -> None:
        """Damage the card, and remove the parts in `removed`."""
        self.system.damage_card()
        self.remove(*removed)

    def damage_commit(self) -> None:
        """Remove the card, and damage the commit record."""
        self.remove("anchor-card")
        self.damage_record("commit")

    def keep_the_copy_alone(self) -> None:
        """Remove everything but the wrapped copy."""
        self.remove("anchor-card", "tpm")
        self.system.sql("DELETE FROM record WHERE name != 'root-key/1'")

    def clear_all(self) -> None:
        clear_all(self.system.state, os.urandom)

    def damage_record(self, name: str) -> None:
        blob = bytearray(self.system.record(name))
        blob[-1] ^= 1
        self.system.sql("UPDATE record SET blob = ? WHERE name = ?", bytes(blob), name)

    def forget_record(self, name: str) -> None:
        self.system.sql("DELETE FROM record WHERE name = ?", name)

    def old_layout(self) -> None:
        """Replace the system by one of an earlier release, which has no wrapped copy of the root key."""
        self.system = System(old_state(self.folder / "old", "89ecc72", "stopped"), wishes=(), data=OLD_DATA)

    def put_back(self) -> None:
        """Restore each part from the original."""
        for part in PARTS:
            if self.system.part(part).exists():
                self.system.remove(part)
            shutil.copytree(self.originals[self.original].part(part), self.system.part(part))


def remember(system: System, part: str, swtpm: Swtpm) -> None:
    """Store the path of the TPM's socket in the part, so that the system starts without options."""
    (system.part(part) / "external").write_text(f"swtpm:{swtpm.path}\n")
    system.server.options = []


def copied_tpm(state: Path, to: Path) -> Swtpm:
    """Copy the state of a swtpm that does not run, and return a swtpm that runs on the copy."""
    shutil.copytree(state, to, ignore=shutil.ignore_patterns("sock*", "pid", "log"))
    return Swtpm(to).start()


class Scene(NamedTuple):
    """A start that succeeds, and what it finds.

    `before` changes the parts of the system. `copies` has the findings about those parts that do not agree.
    `revive` is called before the next start, and `then` is the decision of that start. `kept` is True if
    the guest's object must still be there.
    """

    row: str
    what: str
    begin: str
    before: Callable[[Stage], None]
    copies: Mapping[str, str] = MappingProxyType({})
    state: str = "Operating"
    then: str = "whole"
    kept: bool = True
    revive: Callable[[Stage], None] = lambda _: None


class StopScene(NamedTuple):
    """A start that is refused by `rule`, with one sentence that contains each of `phrases`."""

    row: str
    what: str
    begin: str
    before: Callable[[Stage], None]
    rule: str
    phrases: tuple[str, ...]


CARD = {"anchor-card": "restored"}
TPM = {"tpm": "restored"}
MUTE = {"tpm": "silent"}


def cleared(
    row: str,
    what: str,
    begin: str,
    before: Callable[[Stage], None],
    copies: Mapping[str, str] = MappingProxyType({}),
    revive: Callable[[Stage], None] = lambda _: None,
) -> Scene:
    """Return a scene in which this start and the next one enter the state Recovery."""
    return Scene(row, what, begin, before, copies, "Recovery", "cleared", False, revive)


def revived(stage: Stage) -> None:
    """Start the TPM again, so that it answers."""
    assert stage.swtpm is not None
    stage.swtpm.start()


SCENES = [
    Scene("whole", "nothing happened", "ours", lambda stage: None),
    Scene("new-system", "a new folder", "ours", lambda stage: shutil.rmtree(stage.system.state), kept=False),
    Scene("new-system", "card and service processor new", "ours",
          lambda stage: stage.remove("anchor-card", "service-processor"), kept=False),
    Scene("card-replaced", "no card", "ours", lambda stage: stage.remove("anchor-card"), CARD),
    Scene("card-replaced", "a damaged card", "ours", Stage.damage_card, CARD),
    Scene("tpm-replaced", "no TPM", "ours", lambda stage: stage.remove("tpm"), TPM),
    Scene("tpm-replaced", "a TPM of another system", "ours", lambda stage: stage.exchange("tpm"), TPM),
    Scene("tpm-replaced", "a damaged copy", "ours", lambda stage: stage.damage_record("root-key/1"), TPM),
    Scene("wrapped-copy-lost", "a lost record", "ours", lambda stage: stage.forget_record("root-key/1"), TPM),
    Scene("wrapped-copy-lost", "an older layout", "ours", Stage.old_layout, TPM),
    Scene("tpm-silent", "a silent TPM", "swtpm", Stage.silence, MUTE, revive=revived),
    cleared("service-processor-replaced", "no NVRAM", "ours",
          lambda stage: stage.remove("service-processor"), TPM),
    cleared("service-processor-replaced", "no NVRAM and no TPM", "ours",
          lambda stage: stage.remove("service-processor", "tpm"), TPM),
    cleared("cleared", "a restart in Recovery", "cleared", lambda stage: None),
    cleared("tpm-replaced-cleared", "no TPM in Recovery", "cleared",
          lambda stage: stage.remove("tpm"), TPM),
    cleared("card-replaced-cleared", "no card in Recovery", "cleared",
          lambda stage: stage.remove("anchor-card"), CARD),
    cleared("card-replaced-cleared", "a damaged card in Recovery", "cleared",
          Stage.damage_card, CARD),
    cleared("tpm-silent-cleared", "a silent TPM in Recovery", "swtpm-cleared",
          Stage.silence, MUTE, revive=revived),
    Scene("reset-pending", "Clear All", "ours", Stage.clear_all,
          state="Reset pending", then="reset-pending", kept=False),
]  # fmt: skip

STOPS = [
    StopScene("disagreement", "the card of another system", "ours",
              lambda stage: stage.exchange("anchor-card"), "root-key.agree",
              ("the anchor card: holds the key", "the copy of tpm: holds another key",
               "the records open with the key of the copy of tpm", "put the part of this system back")),
    StopScene("disagreement", "TPM and records of another system", "ours",
              lambda stage: stage.exchange("tpm", "service-processor"),
              "root-key.agree",
              ("the anchor card: holds the key", "the copy of tpm: holds another key",
               "the records open with the key of the copy of tpm", "put the part of this system back")),
    StopScene("foreign-card", "card of another system, and no TPM", "ours",
              Stage.exchange_card, "commit.record",
              ("the anchor card: holds the key", "the copy of tpm: does not unwrap",
               "the card or the records belong to another system", "put the right part back")),
    StopScene("foreign-card", "records of another system", "ours",
              lambda stage: stage.exchange("service-processor"), "commit.record",
              ("the anchor card: holds the key", "the copy of tpm: does not unwrap",
               "the card or the records belong to another system", "put the right part back")),
    StopScene("foreign-records", "no card, and a damaged commit record", "ours",
              Stage.damage_commit,
              "commit.record",
              ("the anchor card: new", "the copy of tpm: holds the key",
               "the records are damaged, or of another system", "put NVRAM back, or use Clear All")),
    StopScene("no-copy", "no card and no TPM", "ours",
              lambda stage: stage.remove("anchor-card", "tpm"), "root-key.readable",
              ("the anchor card: new", "the copy of tpm: does not unwrap",
               "put the old part back", "start a TPM that does not answer")),
    StopScene("no-copy", "no card, and no TPM in Recovery", "cleared",
              lambda stage: stage.remove("anchor-card", "tpm"), "root-key.readable",
              ("the anchor card: new", "the copy of tpm: does not unwrap", "put the old part back")),
    StopScene("card-damaged", "a damaged card and no TPM", "ours",
              lambda stage: stage.damage_card("tpm"), "root-key.readable",
              ("the anchor card: damaged: anchor card", "its check value is wrong",
               "the copy of tpm: does not unwrap", "put the old part back", "Clear All")),
    StopScene("card-damaged", "a damaged card and no NVRAM", "ours",
              lambda stage: stage.damage_card("service-processor"),
              "root-key.readable", ("the anchor card: damaged", "the copy of tpm: none")),
    StopScene("card-and-tpm-new", "a wrapped copy alone, and no TPM", "ours",
              Stage.keep_the_copy_alone,
              "root-key.readable",
              ("the anchor card: new", "the copy of tpm: does not unwrap",
               "put the old part back", "else Clear All")),
]  # fmt: skip
