"""Secure erase of a system with NVRAM on etcd: kills at each request, and refusals."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from hcall_abi.errors import SwpksError
from hcall_abi.rules import storage as rules
from hcall_server.components.anchor_card import AnchorCard
from hcall_server.nvram import NvramError
from hcall_server.nvram.etcd.wire import RANGE
from hcall_server.service import erase_nvram, standing_by
from hcall_server.service.erase import clear_all, losses, reset_settings
from hcall_server.service.erase_nvram import erased_nvram
from hcall_server.service.standing_by import nvram_of_command
from swpks.cli.main import main
from swpks.testing.etcd.network import Fate
from tests.cluster.powered_off import PLACE, PoweredOff
from tests.parts.systems import contents
from tests.service.folder import assembled

ACTIONS = {"clear-all": clear_all, "reset-settings": reset_settings}
NEW = {"commit", "root-key/1", "system"}
"""The records of a new system."""
ETCD = ["--nvram", "etcd:127.0.0.1", "--nvram-prefix", "p"]


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PoweredOff:
    monkeypatch.setattr(standing_by, "GRACE", -6.0)  # an owner that lives is not waited for
    return PoweredOff(tmp_path / "state", monkeypatch).filled()


def erased(system: PoweredOff, action: str, before: Callable[[], None] = lambda: None) -> str:
    """Carry out an action; `before` is called when the prefix is owned."""
    with erased_nvram(system.folder, PLACE) as nvram:
        before()
        return ACTIONS[action](system.folder, os.urandom, nvram)


def key(system: PoweredOff) -> bytes:
    card = AnchorCard(system.folder / "anchor-card").read()
    assert card is not None
    return card.identity.root_key


def test_both_actions_leave_a_new_system(system: PoweredOff) -> None:
    """R-60, R-61, R-62: no revision in etcd has an old record, and the system id stays."""
    old, records = key(system), set(system.model.values().values())
    with system.assembled() as machine:
        system_id = machine.system.system_id
    text = erased(system, "clear-all")
    assert "`etcdctl defrag --cluster`" in text
    assert "The folder of each standby still has the old root key." in text
    assert key(system) != old
    assert system.records() == {"commit", "root-key/1", "system", *system.partitions()}
    assert system.found() == ("Reset pending", [])
    text = erased(system, "reset-settings")
    assert "They do not open without the old root key." in text
    assert system.records() == NEW
    assert not records & set(system.model.values().values())
    assert system.found() == ("Operating", [])
    with system.assembled() as machine:
        assert machine.system.system_id == system_id


def test_a_reset_alone_keeps_the_key(system: PoweredOff) -> None:
    """R-48, R-61: the next start is in the state Recovery; the text says which bytes are left."""
    old = key(system)
    text = erased(system, "reset-settings")
    assert "They open with the root key, which is kept. Only clear-all makes them worthless." in text
    assert system.records() == set()
    assert not (system.folder / "service-processor").exists()
    assert key(system) == old
    assert system.found() == ("Recovery", [])


@pytest.mark.parametrize("fate", ["refused", "unanswered"])
@pytest.mark.parametrize(
    "action,before", [("clear-all", []), ("reset-settings", []), ("reset-settings", ["clear-all"])]
)
def test_a_kill_at_each_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: str, before: list[str], fate: Fate
) -> None:
    """R-60, R-61: after each kill all is there, or the same commands finish the erase."""
    # The first two requests change nothing.
    for step in range(3, 99):
        system = PoweredOff(tmp_path / str(step), monkeypatch).filled()
        for each in before:
            erased(system, each)
        records = system.partitions()
        with suppress(SwpksError):
            erased(system, action, partial(system.die_at, step, fate))
        died = len(system.asked) >= step
        system.buried()
        mark = (system.folder / "service-processor" / "nvram.etcd-mark").exists()
        assert system.partitions() in (records, set()), "all or nothing"
        assert mark or not system.partitions(), "the sign goes after the records"
        if action == "reset-settings" and not before:
            assert outcome(system) in ("Operating", "Recovery", rules.NVRAM_AGE.id)
        if before or action == "clear-all":
            assert outcome(system) in ("Operating", "Reset pending"), "never refused"
            erased(system, "clear-all")
        erased(system, "reset-settings")
        empty = not before and action == "reset-settings"
        assert system.records() == (set() if empty else NEW)
        assert system.found()[0] == ("Recovery" if empty else "Operating")
        if not died:
            assert step > 6
            return
    raise AssertionError("no end")


def outcome(system: PoweredOff) -> str:
    """Start the system; return its state, or the rule of the refusal."""
    try:
        return system.found()[0]
    except SwpksError as error:
        return error.rule.id


def test_a_kill_between_etcd_and_the_folder(system: PoweredOff, monkeypatch: pytest.MonkeyPatch) -> None:
    """R-61: the mark is still there, so a start is refused, and a second call must name etcd too."""
    with monkeypatch.context() as patch:
        patch.setattr(erase_nvram, "take_away", partial(_killed))
        with pytest.raises(KeyboardInterrupt):
            erased(system, "reset-settings")
    assert system.records() == set()
    with pytest.raises(NvramError, match="repeat an asmi command that was ended") as caught:
        system.found()
    assert caught.value.rule is rules.NVRAM_AGE
    assert main(["asmi", "--state", str(system.folder), "reset-settings"]) == 1
    erased(system, "reset-settings")
    assert system.found() == ("Recovery", [])


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


def asmi(*words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    status = main(["asmi", *words])
    shown = capsys.readouterr()
    return status, shown.out, shown.err


@pytest.mark.parametrize("action", ACTIONS)
def test_without_its_nvram_nothing_is_erased(
    system: PoweredOff, action: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """R-61: no word is given for an erase that would not reach the records."""
    before = contents(system.folder)
    status, out, error = asmi("--state", str(system.folder), action, capsys=capsys)
    assert (status, out) == (1, "")
    assert "rule nvram.one-place" in error
    assert "repeat this with its --nvram" in error
    assert "replace" not in error, "that would leave the records in etcd"
    assert contents(system.folder) == before


@pytest.mark.parametrize("name", ["service-processor/nvram.sqlite", "nvram.sqlite"])
def test_nvram_in_the_folder_needs_no_etcd(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """R-61: also with the layout of an older release, --nvram is refused before etcd is asked."""
    folder = tmp_path / "state"
    with assembled(folder):
        pass
    (folder / "service-processor" / "nvram.sqlite").rename(folder / name)
    status, out, error = asmi("--state", str(folder), "clear-all", *ETCD, capsys=capsys)
    assert (status, out) == (1, "")
    assert "rule nvram.one-place" in error
    assert "repeat this without --nvram" in error


def test_a_system_that_runs_elsewhere_is_refused(
    system: PoweredOff, capsys: pytest.CaptureFixture[str]
) -> None:
    """R-61: the owner of the prefix is named, and no word is given."""
    before, other = contents(system.folder), nvram_of_command(PLACE)
    status, out, error = asmi("--state", str(system.folder), "clear-all", *ETCD, capsys=capsys)
    other.close()
    assert (status, out) == (1, "")
    assert f"p in etcd, owned by {os.uname().nodename} process {os.getpid()}" in error
    assert "rule state.owner" in error
    assert contents(system.folder) == before


def test_a_signal_ends_the_wait_for_an_owner(system: PoweredOff, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that waits for the end of a lease stops at once, and owns nothing."""
    monkeypatch.setattr(standing_by, "GRACE", 600.0)
    other = nvram_of_command(PLACE)

    def stopped(path: str) -> Fate:
        if path == RANGE:
            os.kill(os.getpid(), signal.SIGTERM)
        return "answered"

    system.fates(stopped)
    with pytest.raises(KeyboardInterrupt), erased_nvram(system.folder, PLACE):
        raise AssertionError("it must not become the owner")
    system.fates(lambda path: "answered")
    other.commit({})
    other.close()


def test_the_command_erases_after_its_word(system: PoweredOff, capsys: pytest.CaptureFixture[str]) -> None:
    """R-61: the losses name etcd's history, its files and the folders of standbys."""
    words = ["--state", str(system.folder), "--json", "clear-all", *ETCD]
    status, out, _ = asmi(*words, capsys=capsys)
    asked = json.loads(out)
    assert status == 4
    assert "older revisions of all keys in the etcd cluster, also those of other programs" in asked["losses"]
    assert any("files of etcd's members" in each for each in asked["losses"])
    assert any("each standby of p has the root key" in each for each in asked["losses"])
    Path(asked["presence"]).write_text(asked["word"])
    status, out, _ = asmi(*words, capsys=capsys)
    assert (status, json.loads(out)["erased"]) == (0, True)
    assert system.found() == ("Reset pending", [])


@pytest.mark.parametrize(
    "words", [["--nvram", "sqlite:a"], ["--nvram-prefix", "p"], [*ETCD[:2], "--nvram-prefix", "a/record"]]
)
def test_wrong_options_are_usage_errors(
    system: PoweredOff, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The rules of `serve` hold; a prefix in the records of another system is refused."""
    assert asmi("--state", str(system.folder), "clear-all", *words, capsys=capsys)[0] == 2


def test_a_damaged_card_keeps_the_id(system: PoweredOff) -> None:
    """R-60: the id comes from a wrapped copy in etcd.  Without an answer, nothing is erased."""
    path = system.folder / "anchor-card" / "anchor-card"
    with system.assembled() as machine:
        system_id = machine.system.system_id
    path.write_bytes(b"damaged")
    with pytest.raises(NvramError) as caught:
        erased(system, "clear-all", partial(system.die_at, 1, "refused"))
    system.buried()
    assert caught.value.rule is rules.NVRAM_REACHED
    assert path.read_bytes() == b"damaged"
    assert "new serial number" not in erased(system, "clear-all")
    with system.assembled() as machine:
        assert machine.system.system_id == system_id


def refused(system: PoweredOff, action: str, prefix: str = "p") -> str:
    """Carry out an action, which must be refused before it changes anything; return the error."""
    before, values = contents(system.folder), system.model.values()
    place = PLACE._replace(prefix=prefix)
    with pytest.raises(SwpksError) as caught, erased_nvram(system.folder, place) as nvram:
        ACTIONS[action](system.folder, os.urandom, nvram)
    unlike = {f"{prefix}/owner".encode(), f"{prefix}/commit".encode()}
    after = system.model.values()
    assert {key: value for key, value in after.items() if key not in unlike} == {
        key: value for key, value in values.items() if key not in unlike
    }
    assert contents(system.folder) == before
    return str(caught.value)


@pytest.mark.parametrize("action", ACTIONS)
def test_records_that_no_system_has_written_are_not_removed(system: PoweredOff, action: str) -> None:
    """R-61: it is unknown whose they are."""
    system.model._store[b"p/record/\xff"] = system.model._store[b"p/commit"]
    assert "rule nvram.answer" in refused(system, action)


@pytest.mark.parametrize("action", ACTIONS)
def test_an_empty_prefix_is_a_wrong_one(system: PoweredOff, action: str) -> None:
    """R-61: an erase does not report success while the records are below another prefix, at no call."""
    for _ in range(2):
        said = refused(system, action, "q")
        assert "no record below q, but the high-water mark of this system has commits" in said
        assert "rule nvram.one-place" in said
    assert "high-water mark" in refused_losses(system, action, "q")


def refused_losses(system: PoweredOff, action: str, prefix: str) -> str:
    place = PLACE._replace(prefix=prefix)
    with pytest.raises(SwpksError) as caught, erased_nvram(system.folder, place) as nvram:
        losses(system.folder, action, nvram)
    return str(caught.value)


@pytest.mark.parametrize(
    "action,before", [("clear-all", []), ("reset-settings", []), ("reset-settings", ["clear-all"])]
)
def test_another_systems_records_are_not_erased(
    system: PoweredOff, tmp_path: Path, action: str, before: list[str]
) -> None:
    """R-61: a wrong prefix can be that of another system which is off."""
    other = PoweredOff(tmp_path / "other", system.monkeypatch, "q", system.model).filled()
    records = other.partitions()
    for each in before:
        erased(system, each)
    said = refused(system, action, "q")
    expected = "no wrapped copy below q is of this system" if before else "do not open with the anchor card"
    assert expected in said
    assert other.partitions() == records
    assert other.found() == ("Operating", ["alpha"])


def test_a_reset_after_a_killed_clear_all_repeats_it_first(system: PoweredOff) -> None:
    """R-61: the wrapped copies are still old, and no seed opens them."""
    with suppress(NvramError):
        erased(system, "clear-all", partial(system.die_at, 4, "refused"))
    system.buried()
    assert "a Clear All that was ended comes first" in refused(system, "reset-settings")
    erased(system, "clear-all")
    erased(system, "reset-settings")
    assert system.found() == ("Operating", [])


def test_an_erase_without_records_in_etcd(system: PoweredOff) -> None:
    """R-61: as the refusal says, after `hmc replace` an empty prefix is accepted."""
    assert main(["hmc", "--state", str(system.folder), "replace", "service-processor"]) == 0
    place = PLACE._replace(prefix="q")
    for action in ACTIONS.values():
        with erased_nvram(system.folder, place) as nvram:
            action(system.folder, os.urandom, nvram)
    assert system.partitions(), "below another prefix"


def test_plain_http_beyond_this_host_is_told(system: PoweredOff) -> None:
    """R-61: an answer that another program can give proves no erase."""
    place = PLACE._replace(endpoints=("http://192.0.2.1:2379",))
    with erased_nvram(system.folder, place) as nvram:
        assert any("http://192.0.2.1:2379 without https" in each for each in nvram.losses())
