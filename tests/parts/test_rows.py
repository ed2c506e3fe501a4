"""A real server for every row of the decision table: it runs the scenes of `tests.parts.scenes`."""

from __future__ import annotations

import pytest

from hcall_client.console import show_health
from hcall_server.platform.root_key import ROOT_KEY_TABLE, StartOutcome
from tests.parts.scenes import SCENES, STOPS, Scene, Stage, StopScene

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("not_measured")]

STORAGE = 3
"""Exit status of a start that a row of the table stops."""


WHOLE = {"anchor-card": "agrees", "service-processor": "present", "tpm": "agrees"}


CLEARED = ("cleared", "Recovery", WHOLE, None)


def name_of(scene: Scene | StopScene) -> str:
    return f"{scene.row}: {scene.what}"


def test_every_row_has_a_scene() -> None:
    """R-41: every row has a scene: a `Scene`, or a `StopScene` if the row refuses the start."""
    stopping = {row.id for row in ROOT_KEY_TABLE if row.outcome is StartOutcome.STOP}
    assert {scene.row for scene in STOPS} == stopping
    assert {scene.row for scene in SCENES} == {row.id for row in ROOT_KEY_TABLE} - stopping


@pytest.mark.parametrize("scene", SCENES, ids=name_of)
def test_a_start_goes_on(scene: Scene, stage: Stage) -> None:
    """R-40, R-41, R-48: a start restores missing copies of the root key; the next start finds them all."""
    stage.begin(scene.begin)
    scene.before(stage)
    system = stage.system
    with system.on() as server:
        found = system.components()
        assert found.decision == scene.row
        copies = {each.name: each.copy for each in found.components}
        assert copies == {**WHOLE, **scene.copies}
        assert {each.name for each in found.components if not each.ok} == {
            name for name, copy in scene.copies.items() if copy == "silent"
        }
        assert server.ready["state"] == scene.state
        assert system.ask(show_health()).ok == (
            scene.state == "Operating" and "silent" not in copies.values()
        )
        assert bool(server.ready["sockets"]) == (scene.state == "Operating")
        if scene.kept:
            system.demand_object()
    key = system.root_key()
    scene.revive(stage)
    again = system.found_again()
    assert again[:3] == (scene.then, scene.state, WHOLE)
    assert again.data == (system.data if scene.kept else None)
    assert system.root_key() == key


@pytest.mark.parametrize("scene", STOPS, ids=name_of)
def test_a_start_stops(scene: StopScene, stage: Stage) -> None:
    """R-41: a refused start names in one sentence what each part contains, and changes nothing."""
    stage.begin(scene.begin)
    scene.before(stage)
    done = stage.system.refused()
    assert (done.returncode, done.stdout) == (STORAGE, "")
    (line,) = done.stderr.splitlines()
    for words in (*scene.phrases, f"rule {scene.rule}:", "No copy was changed"):
        assert words in line
    stage.put_back()
    whole = ("whole", "Operating", WHOLE, stage.system.data)
    assert stage.system.found_again() == (whole if scene.begin == "ours" else CLEARED)
