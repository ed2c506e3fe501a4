"""Real servers with real TPMs: a TPM is restarted, killed, swapped or cleared; a system has two of them.

A system also stores the kind of its TPM.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.components.swtpm import Swtpm
from tests.parts.scenes import Stage, copied_tpm, remember
from tests.parts.systems import System
from tests.service.processes import serve

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("not_measured")]

WHOLE = {"anchor-card": "agrees", "service-processor": "present", "tpm": "agrees"}
BOTH = {**WHOLE, "tpm-2": "agrees"}


def begun(system: System, decision: str, **copies: str) -> None:
    """Start the system once in this process; compare decision and findings as `started` does."""
    whole = BOTH if system.part("tpm-2").exists() else WHOLE
    expected = {**whole, **{name.replace("_", "-"): copy for name, copy in copies.items()}}
    assert system.found_again() == (decision, "Operating", expected, system.data)


def started(system: System, decision: str, **copies: str) -> None:
    """Start the system once; assert its decision, and that the guest's object is there.

    `copies` has the findings about parts, without those that agree.
    """
    whole = BOTH if system.part("tpm-2").exists() else WHOLE
    with system.on():
        assert system.components().decision == decision
        assert system.copies() == {**whole, **{name.replace("_", "-"): copy for name, copy in copies.items()}}
        system.demand_object()


@pytest.fixture
def real(stage: Stage) -> Stage:
    """A filled system with a running swtpm."""
    stage.begin("swtpm")
    return stage


def test_a_real_tpm_is_restarted_and_killed(real: Stage) -> None:
    """R-43: a real TPM unwraps the root key after a restart, and after a kill.

    The wrapped copy also restores a lost anchor card.
    """
    assert real.swtpm is not None
    real.swtpm.stop()
    real.swtpm.start()
    begun(real.system, "whole")
    real.swtpm.restart()
    real.remove("anchor-card")
    begun(real.system, "card-replaced", anchor_card="restored")
    assert real.swtpm.loaded() == 0


def test_a_real_tpm_is_killed_beside_a_server(real: Stage) -> None:
    """R-43: a server needs the TPM only at its start, so a running one serves on without it."""
    assert real.swtpm is not None
    with real.system.on():
        real.swtpm.kill()
        real.system.demand_object()
    real.swtpm.start()
    begun(real.system, "whole")


def test_a_real_tpm_is_cleared_and_another_one_put_in(real: Stage) -> None:
    """R-41, R-43: TPM2_Clear or another chip counts as a new TPM. The card's key is wrapped again."""
    assert real.swtpm is not None
    real.swtpm.clear()
    started(real.system, "tpm-replaced", tpm="restored")
    real.swtpm.kill()
    shutil.rmtree(real.swtpm.folder)
    real.swtpm.start()
    begun(real.system, "tpm-replaced", tpm="restored")
    begun(real.system, "whole")


def test_flipped_bits_of_a_wrapped_record(real: Stage) -> None:
    """R-41, R-43: if a bit of the wrapped record is flipped, the next start wraps the key again.

    The bit is in the header, in the private or in the public part.
    """
    name, system = "root-key/1", real.system
    for place in (1, 40, -1):
        record = bytearray(system.record(name))
        record[place] ^= 0x10
        system.sql("UPDATE record SET blob = ? WHERE name = ?", bytes(record), name)
        begun(system, "tpm-replaced", tpm="restored")


def test_a_silent_tpm_beside_lost_nvram(real: Stage) -> None:
    """R-41, R-43, R-48: with the card alone, the start enters Recovery.

    When the TPM answers, it wraps the key.
    """
    assert real.swtpm is not None
    real.silence()
    real.remove("service-processor")
    with real.system.on() as server:
        assert real.system.components().decision == "service-processor-replaced"
        assert real.system.copies() == {**WHOLE, "service-processor": "none", "tpm": "silent"}
        assert server.ready["state"] == "Recovery"
    real.swtpm.start()
    assert real.system.found_again() == (
        *("service-processor-replaced", "Recovery"),
        {**WHOLE, "tpm": "restored"},
        None,
    )


def test_a_silent_tpm_beside_a_lost_card(real: Stage) -> None:
    """R-41, R-43: without card and TPM the start is refused, and nothing is lost.

    Later the TPM unwraps the key.
    """
    assert real.swtpm is not None
    real.silence()
    real.remove("anchor-card")
    done = real.system.refused()
    assert done.returncode == 3
    assert "the copy of tpm: the TPM does not answer" in done.stderr
    assert "rule root-key.readable:" in done.stderr
    real.swtpm.start()
    begun(real.system, "card-replaced", anchor_card="restored")


def test_a_new_system_needs_its_tpm(tmp_path: Path) -> None:
    """R-40, R-43: if the TPM does not answer, a first start makes no root key. The next start makes it."""
    with Swtpm(tmp_path / "t") as swtpm:
        system = System(tmp_path / "s", ["--tpm", f"swtpm:{swtpm.path}"])
        swtpm.stop()
        done = serve("--state", str(system.state), "--partition", "alpha:64", *system.server.options)
        assert done.returncode == 3
        assert "rule tpm.answers:" in done.stderr
        assert not system.part("anchor-card").exists()
        swtpm.start()
        system.filled()
        begun(system, "whole")


def test_the_kind_is_remembered(real: Stage) -> None:
    """R-43: a start without --tpm uses the stored kind. Another kind is refused until the TPM is replaced."""
    system = real.system
    begun(system, "whole")
    done = system.refused("--tpm", "embedded")
    assert done.returncode == 2
    assert "rule tpm.kind:" in done.stderr
    assert f"swpks hmc replace tpm --state {system.state}" in done.stderr
    assert system.server.run("hmc", "replace", "tpm").returncode == 0
    system.server.options = ["--tpm", "embedded"]
    started(system, "tpm-replaced", tpm="restored")
    system.server.options = []
    begun(system, "whole")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> System:
    """A filled system with an embedded TPM and a swtpm.

    The folder of the swtpm is beside that of the system.
    """
    folder = tmp_path_factory.mktemp("p")
    with Swtpm(folder / "tpm-state") as swtpm:
        return System(folder / "pair", ["--tpm", "embedded", "--tpm", f"swtpm:{swtpm.path}"]).filled()


class Pair:
    """A system with two TPMs, copied from the fixture `pair`. Its swtpm runs."""

    def __init__(self, folder: Path, pair: System) -> None:
        self.system = pair.copied(folder / "state")
        self.swtpm = copied_tpm(pair.state.with_name("tpm-state"), folder / "t")
        remember(self.system, "tpm-2", self.swtpm)


@pytest.fixture
def both(tmp_path: Path, pair: System) -> Iterator[Pair]:
    made = Pair(tmp_path, pair)
    yield made
    made.system.server.kill()
    made.swtpm.kill()


def test_either_of_two_tpms_heals_the_other_and_the_card(both: Pair) -> None:
    """R-41, R-43: if the card and one of two TPMs are lost, the other TPM unwraps the key for both."""
    system, key = both.system, both.system.root_key()
    for lost in ("tpm", "tpm-2"):
        if lost == "tpm":
            system.remove("tpm")
        else:
            both.swtpm.clear()
        system.remove("anchor-card")
        started(system, "card-replaced", **{"anchor_card": "restored", lost.replace("-", "_"): "restored"})
        assert system.root_key() == key
    begun(system, "whole")


def test_one_of_two_tpms_is_silent(both: Pair) -> None:
    """R-41, R-43: if one of two TPMs is silent, the other one restores the card. Later all copies agree."""
    both.swtpm.stop()
    both.system.remove("anchor-card")
    started(both.system, "card-replaced", anchor_card="restored", tpm_2="silent")
    both.swtpm.start()
    begun(both.system, "whole")


def test_two_tpms_with_two_keys_stop(both: Pair, originals: dict[str, System]) -> None:
    """R-41: two TPMs with different keys refuse a start, although one key opens the records."""
    system, other = both.system, originals["other"]
    blob = other.record("root-key/1")
    system.take("tpm", other)
    system.sql("UPDATE record SET blob = ? WHERE name = 'root-key/1'", blob)
    system.remove("anchor-card")
    done = system.refused()
    assert done.returncode == 3
    for words in (
        "rule root-key.agree:",
        "the anchor card: new",
        "the copy of tpm-2: holds another key",
        "the records open with the key of the copy of tpm-2",
    ):
        assert words in done.stderr
