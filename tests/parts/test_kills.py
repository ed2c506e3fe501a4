"""kill -9 at each step: of a first start, the conversion of an older layout, each repair and each erase."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.parts.systems import CANARY, System
from tests.service.test_conversion import ALPHA, BETA

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("not_measured")]

Kills = list[dict[str, Any]]
Killed = Callable[[str], Kills]
OBJECTS = {"alpha/disk-key": CANARY.decode()}
OLD = {
    **{f"alpha/{label}": data for label, data in ALPHA.items()},
    "alpha/late": "written before the power cut",
    **{f"beta/{label}": data for label, data in BETA.items()},
}


@pytest.fixture
def killed(tmp_path: Path, originals: dict[str, System]) -> Killed:
    """A function that runs a scenario of `tests.parts.killed`.

    It returns the findings after each kill; the last are those of a run without a kill.
    """

    def play(scenario: str) -> Kills:
        command = [sys.executable, "-m", "tests.parts.killed", str(originals["ours"].state), str(tmp_path)]
        done = subprocess.run([*command, scenario], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return play


def stays(found: dict[str, Any], *, but: tuple[str, ...] = ("row",)) -> bool:
    """Return whether the second start after a kill has the same findings as the first one."""
    return all(found["then"][name] == found[name] for name in found["then"] if name not in but)


def test_a_first_start(killed: Killed) -> None:
    """R-40, R-41: after each kill the next start succeeds, and never enters Recovery.

    The card is written last.
    """
    kills = killed("new")
    assert len(kills) > 40
    for found in kills:
        assert (found["state"], found["refused"]) == ("Operating", []), found
        assert found["row"] in {"new-system", "card-replaced", "whole"}
        assert found["then"]["row"] == "whole"
        assert stays(found), found
    rows = [found["row"] for found in kills]
    assert rows == sorted(rows, key=["new-system", "card-replaced", "whole"].index)


def test_the_move_of_an_older_layout(killed: Killed) -> None:
    """R-21, R-40, R-41: after each kill the system has the same id, partitions and objects.

    Its root key is wrapped then.
    """
    kills = killed("old-layout")
    assert len(kills) > 15
    for found in kills:
        assert (found["state"], found["refused"], found["objects"]) == ("Operating", [], OLD), found
        assert found["row"] in {"wrapped-copy-lost", "whole"}
        assert found["then"]["row"] == "whole"
        assert stays(found), found
    assert len({found["system_id"] for found in kills}) == 1


@pytest.mark.parametrize("part,row", [("card", "card-replaced"), ("tpm", "tpm-replaced")])
def test_a_repair(killed: Killed, part: str, row: str) -> None:
    """R-41: with a new card or TPM, nothing is lost after any kill, and the repair is made once."""
    kills = killed(part)
    assert len(kills) > 15
    for found in kills:
        assert (found["state"], found["refused"], found["objects"]) == ("Operating", [], OBJECTS), found
        assert found["row"] in {row, "whole"}
        assert found["then"]["row"] == "whole"
        assert stays(found), found
    assert len({found["system_id"] for found in kills}) == 1
    assert kills[0]["row"] == row
    assert kills[-1]["row"] == "whole"


@pytest.mark.parametrize("parts", ["service-processor", "service-processor-tpm"])
def test_a_new_service_processor(killed: Killed, parts: str) -> None:
    """R-41, R-48: with a new service processor, every start after a kill enters Recovery.

    It is never refused, and never makes a new system.
    """
    kills = killed(parts)
    assert len(kills) > 20
    for found in kills:
        assert (found["state"], found["objects"]) == ("Recovery", {}), found
        assert found["row"] in {"service-processor-replaced", "cleared"}
        assert found["then"]["row"] == "cleared"
        assert stays(found), found
    assert len({found["system_id"] for found in kills}) == 1
    assert kills[-1]["row"] == "cleared"


def demand_erased(found: dict[str, Any], system_id: str) -> None:
    """Assert that the system is empty, has its old id, and has no trace of the old root key."""
    assert (found["state"], found["objects"], found["uuids"]) == ("Operating", {}, {})
    assert found["system_id"] == system_id
    assert found.get("traces", []) == []


def test_clear_all(killed: Killed) -> None:
    """R-60, R-62: after each kill nothing is lost, or the state is Reset pending and another run finishes."""
    kills = killed("clear-all")
    assert len(kills) > 15
    states = [found["state"] for found in kills]
    assert states == sorted(states)
    assert set(states) == {"Operating", "Reset pending"}
    for found in kills:
        assert found["system_id"] == kills[0]["system_id"]
        assert stays(found), found
        if found["state"] == "Operating":
            assert (found["row"], found["refused"], found["objects"]) == ("whole", [], OBJECTS)
        else:
            assert (found["row"], found["objects"]) == ("reset-pending", {})
            demand_erased(found["finished"], found["system_id"])


def test_reset_settings_after_clear_all(killed: Killed) -> None:
    """R-60, R-61, R-62: the state is Reset pending until the erase is done; another run finishes it."""
    kills = killed("reset-after-clear-all")
    assert len(kills) > 20
    for found in kills:
        assert stays(found), found
        if found["state"] == "Reset pending":
            assert (found["row"], found["objects"]) == ("reset-pending", {})
            demand_erased(found["finished"], kills[0]["system_id"])
        else:
            assert found["row"] == "whole"
            demand_erased(found, kills[0]["system_id"])
    assert kills[-1]["state"] == "Operating"


def test_reset_settings_alone(killed: Killed) -> None:
    """R-48, R-61: after each kill nothing is lost, or everything is erased and the state is Recovery."""
    kills = killed("reset-alone")
    assert len(kills) > 10
    for found in kills:
        assert found["system_id"] == kills[0]["system_id"]
        assert stays(found), found
        if found["state"] == "Operating":
            assert (found["row"], found["refused"], found["objects"]) == ("whole", [], OBJECTS)
        else:
            assert (found["row"], found["state"]) == ("service-processor-replaced", "Recovery")
    states = [found["state"] for found in kills]
    assert states == sorted(states)
    assert set(states) == {"Operating", "Recovery"}


def test_a_restore_in_recovery(killed: Killed) -> None:
    """R-45, R-48: after each kill the state is Recovery, with or without the restored store.

    In both cases the same commands finish the restore.
    """
    kills = killed("restore")
    assert len(kills) > 15
    for found in kills:
        assert (found["state"], found["objects"]) == ("Recovery", {}), found
        assert stays(found), found
        demand_recovered(found["finished"])
    lists = [found["restored"] for found in kills]
    assert lists == sorted(lists)
    assert (lists[0], lists[-1]) == ([], ["alpha"])


def demand_recovered(found: dict[str, Any]) -> None:
    """Assert that the guest's object is in the only partition, which is not refused."""
    assert (found["row"], found["state"], found["refused"]) == ("whole", "Operating", [])
    assert found["objects"] == OBJECTS


def test_the_end_of_recovery(killed: Killed) -> None:
    """R-48: after each kill the state is Recovery or Operating; both have the restored store."""
    kills = killed("recover")
    assert len(kills) > 15
    states = [found["state"] for found in kills]
    assert states == sorted(states, reverse=True)
    assert set(states) == {"Operating", "Recovery"}
    for found in kills:
        assert stays(found), found
        if found["state"] == "Recovery":
            assert (found["restored"], found["objects"]) == (["alpha"], {})
            demand_recovered(found["finished"])
        else:
            demand_recovered(found)


def test_a_technician_is_killed(killed: Killed) -> None:
    """R-41: after each kill the old card is in place, or the start writes a new one. Nothing is lost."""
    kills = killed("replace")
    assert len(kills) > 5
    assert {found["row"] for found in kills} == {"whole", "card-replaced"}
    for found in kills:
        assert (found["state"], found["refused"], found["objects"]) == ("Operating", [], OBJECTS), found
        assert stays(found), found


def once(kills: Kills, before: Any, after: Any, name: str) -> None:
    """Assert that early kills leave the value `before`, and all later kills the value `after`."""
    found = [kill[name] for kill in kills]
    assert found[0] == before
    assert found[-1] == after
    turn = found.index(after)
    assert found == [before] * turn + [after] * (len(found) - turn)


def demand_whole(found: dict[str, Any]) -> None:
    """Assert that no partition is refused and each has its key file. A second start must agree."""
    assert (found["state"], found["refused"]) == ("Operating", []), found
    assert found["keys"] == sorted(found["uuids"]), found
    assert stays(found), found


def test_a_deletion(killed: Killed) -> None:
    """R-23: after each kill the partition has its object and its key file, or nothing of it remains."""
    kills = killed("delete")
    assert len(kills) > 10
    for found in kills:
        demand_whole(found)
        assert found["objects"] == (OBJECTS if found["uuids"] else {}), found
    once(kills, ["alpha"], [], "keys")


def test_a_rename(killed: Killed) -> None:
    """R-47: after each kill the partition has its object, UUID and key, under the old or the new name."""
    kills = killed("rename")
    assert len(kills) > 10
    for found in kills:
        demand_whole(found)
        (name,) = found["uuids"]
        assert found["uuids"][name] == kills[0]["uuids"]["alpha"]
        assert found["objects"] == {f"{name}/disk-key": CANARY.decode()}, found
    once(kills, ["alpha"], ["omega"], "keys")


def test_a_restore_of_a_store_that_is_there(killed: Killed) -> None:
    """R-45: contents, generation and number of restores change together."""
    kills = killed("restore-present")
    assert len(kills) > 5
    first = kills[0]["generations"]["alpha"]
    for found in kills:
        demand_whole(found)
        assert found["objects"] == OBJECTS, found
        assert found["generations"]["alpha"] == first + found["restores"]["alpha"]
    once(kills, {"alpha": 0}, {"alpha": 1}, "restores")
