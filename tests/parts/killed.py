"""Kills a start or an erase at each of its steps in turn, and starts the system again.

    python -m tests.parts.killed STATE FOLDER SCENARIO

STATE is a filled system that is off. The program prints one line of JSON for each kill: the step, and the
findings of the next start. `tests.service.killed_conversion` defines a step.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import trio

from hcall_server.components.anchor_card import AnchorCard
from hcall_server.machine.machine import Machine
from hcall_server.service.erase import clear_all, reset_settings
from hcall_server.service.layout import replace_part
from hcall_server.service.locked import LockedState
from hcall_server.service.settings import Settings, parse_partition
from tests.parts.search import Search
from tests.service.folder import assembled, old_state
from tests.service.killed_conversion import CALLS, Steps, child

LABEL = b"disk-key"
WISHES = Settings(partition=(parse_partition("alpha:64"),))
Work = Callable[[Path], None]


def stepped(work: Work, state: Path, last: int) -> None:
    """Run a function in this process, and kill the process at step number `last`."""
    steps = Steps(last)
    for name in CALLS:
        setattr(os, name, steps.wrapped(getattr(os, name)))
    os.open = steps.opening(os.open)
    connect = steps.traced(sqlite3.connect)
    sqlite3.connect = connect  # type: ignore[assignment]
    work(state)
    # The end of the work is a step too, the last one.
    steps.step()


def start(state: Path) -> None:
    """Start a system and make its changes durable, as a server does."""
    with assembled(state, WISHES) as machine:
        assert trio.run(machine.encryptor.flush)


def start_old(state: Path) -> None:
    with assembled(state):
        pass


def clear(state: Path) -> None:
    with LockedState(state) as locked:
        clear_all(locked.folder, os.urandom)


def reset(state: Path) -> None:
    with LockedState(state) as locked:
        reset_settings(locked.folder, os.urandom)


def replace(state: Path) -> None:
    with LockedState(state) as locked:
        replace_part(locked.folder, "anchor-card")


def kept(original: Path) -> tuple[bytes, bytes]:
    """Return the files that an operator stores: the sealed trusted system key, and the copy of alpha."""
    with assembled(original) as machine:
        copy = trio.run(machine.backups.copy_of, "alpha")
        sealed = machine.backups.sealed_key()
        assert sealed is not None
        return sealed, copy.blob


def emptied(original: Path, to: Path) -> None:
    """Make a system in Recovery, and note the operator's files in KEPT."""
    copied(original, to)
    sealed, copy = kept(to)
    KEPT.update(sealed=sealed, copy=copy)
    shutil.rmtree(to / "service-processor")
    start(to)


KEPT: dict[str, bytes] = {}


def bring_back(state: Path) -> None:
    """Give the trusted system key back to the system, and restore alpha.

    Each call ends when its change is durable.
    """

    async def brought(machine: Machine) -> None:
        await machine.backups.return_key(KEPT["sealed"])
        await machine.backups.restore(KEPT["copy"])

    with assembled(state) as machine:
        trio.run(brought, machine)


def restored(original: Path, to: Path) -> None:
    emptied(original, to)
    bring_back(to)


def recover(state: Path) -> None:
    with assembled(state) as machine:
        trio.run(partial(machine.recovery.end, give_up=False))


def delete(state: Path) -> None:
    """Delete a partition that holds an object. The answer comes when the deletion is durable."""
    with assembled(state) as machine:
        trio.run(partial(machine.changes.delete, "alpha", destroy=True))


def rename(state: Path) -> None:
    with assembled(state) as machine:
        trio.run(partial(machine.changes.change, "alpha", new_name="omega"))


def restore_present(state: Path) -> None:
    """Restore the copy of a store that is still present."""
    with assembled(state) as machine:
        trio.run(machine.backups.restore, KEPT["copy"])


def with_copy(original: Path, to: Path) -> None:
    copied(original, to)
    KEPT["copy"] = kept(to)[1]


def found_by_start(state: Path) -> dict[str, Any]:
    """Start the system in this process; return the findings."""
    with assembled(state) as machine:
        partitions = machine.system.partitions.values()
        return {
            "row": machine.access.row,
            "state": machine.system.state.value,
            "restored": sorted(machine.system.restored),
            "system_id": machine.system.system_id.hex(),
            "refused": [each.name for each in partitions if each.refused],
            "uuids": {each.name: str(each.profile.uuid) for each in partitions},
            "keys": sorted(path.stem for path in (state / "access-keys").iterdir()),
            "restores": {each.name: each.profile.restores for each in partitions},
            "generations": {each.name: each.profile.image_generation for each in partitions},
            "objects": {
                f"{each.name}/{stored.label.decode()}": stored.data.decode("latin-1")
                for each in partitions
                if each.keystore
                for stored in each.keystore.contents.snapshot().objects
            },
        }


def new(original: Path, to: Path) -> None:
    """Make no system: the scenario is the first start."""


def copied(original: Path, to: Path) -> None:
    shutil.copytree(original, to, ignore=shutil.ignore_patterns("*.sock"))


def without(*parts: str) -> Callable[[Path, Path], None]:
    def made(original: Path, to: Path) -> None:
        copied(original, to)
        for part in parts:
            shutil.rmtree(to / part)

    return made


def old(_: Path, to: Path) -> None:
    old_state(to, "89ecc72", "killed")


def with_removed(original: Path, to: Path) -> None:
    """Copy the system, and add an old card that a technician has removed."""
    copied(original, to)
    shutil.copytree(to / "anchor-card", to / "removed" / "anchor-card.1")
    (to / "removed").chmod(0o700)


def cleared(original: Path, to: Path) -> None:
    """Copy the system, and run Clear All on the copy."""
    copied(original, to)
    clear(to)


SCENARIOS: dict[str, tuple[Callable[[Path, Path], None], Work]] = {
    "new": (new, start),
    "old-layout": (old, start_old),
    "card": (without("anchor-card"), start),
    "tpm": (without("tpm"), start),
    "service-processor": (without("service-processor"), start),
    "service-processor-tpm": (without("service-processor", "tpm"), start),
    "replace": (copied, replace),
    "restore": (emptied, bring_back),
    "recover": (restored, recover),
    "delete": (copied, delete),
    "rename": (copied, rename),
    "restore-present": (with_copy, restore_present),
    "clear-all": (with_removed, clear),
    "reset-after-clear-all": (cleared, reset),
    "reset-alone": (copied, reset),
}

STRIDES = {"old-layout": 3, "reset-after-clear-all": 2, "delete": 2, "rename": 2}
"""Scenarios with a test of every second or third step; `test_conversion` has all of the older layout."""


def erase(state: Path) -> None:
    clear(state)
    reset(state)


def return_all(state: Path) -> None:
    bring_back(state)
    recover(state)


FINISH: dict[str, Work] = {
    "restore": return_all,
    "recover": recover,
    "clear-all": erase,
    "reset-after-clear-all": reset,
}
"""Commands of an operator after a kill, if the state is not Operating then: the same commands again."""


def show(state: Path, last: int, scenario: str, search: Search) -> None:
    """Print the findings of two starts; then finish the operator's work, and print those of a third start."""
    first, second = found_by_start(state), found_by_start(state)
    line = {"step": last, **first, "then": second}
    if first["state"] != "Operating" and scenario in FINISH:
        FINISH[scenario](state)
        line["finished"] = {**found_by_start(state), "traces": sorted(search.below(state))}
    print(json.dumps(line), flush=True)


def main(scenario: str, original: Path, folder: Path) -> None:
    """Run a scenario once for each step, with a kill at that step. The last run has no kill."""
    prepare, work = SCENARIOS[scenario]
    ready = folder / f"{scenario}-0"
    prepare(original, ready)
    card = AnchorCard(original / "anchor-card").read()
    assert card is not None
    search = Search({"root key": card.identity.root_key})
    for last in range(1, 1000, STRIDES.get(scenario, 1)):
        state = folder / f"{scenario}-{last}"
        if ready.exists():
            shutil.copytree(ready, state)
        status = child(lambda state=state, last=last: loud(stepped, work, state, last))  # type: ignore[misc]
        if child(lambda state=state, last=last: loud(show, state, last, scenario, search)):  # type: ignore[misc]
            sys.exit(f"{scenario}: step {last}: the next start fails")
        if not status:
            return
        shutil.rmtree(state)


def loud(work: Callable[..., None], *arguments: Any) -> None:
    """Run a function in a child process; if it raises, print the error before the child ends."""
    try:
        work(*arguments)
    except BaseException:
        traceback.print_exc()
        raise


if __name__ == "__main__":
    for name in sys.argv[3:]:
        main(name, Path(sys.argv[1]), Path(sys.argv[2]))
