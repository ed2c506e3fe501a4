"""Parts that can't be used: a start with NVRAM on etcd finds them before it waits for the ownership."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hcall_abi.errors import OperatorError, StorageError, SwpksError
from hcall_abi.rules import storage as rules
from hcall_abi.rules.rule import Rule
from hcall_server.components import private_file
from hcall_server.service.state import State
from tests.service.folder import assembled


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a standby: a card and a TPM."""
    with assembled(tmp_path / "first"):
        pass
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    for part in ("anchor-card", "tpm"):
        (tmp_path / "first" / part).rename(folder / part)
    return folder


@pytest.fixture
def state(folder: Path) -> Iterator[State]:
    state = State(folder, nvram_on_etcd=True)
    yield state
    state.close()


def link(path: Path) -> None:
    """Put a link to the part in its place."""
    target = path.rename(path.parent / "elsewhere")
    path.symlink_to(target)


def empty(path: Path) -> None:
    """Put an empty file in the place of a folder."""
    path.rename(path.parent.parent / "elsewhere")
    path.touch()


def pipe(path: Path) -> None:
    """Put a pipe in the place of a file."""
    path.unlink(missing_ok=True)
    os.mkfifo(path, 0o600)


def other_folder(path: Path) -> None:
    """Put a folder in the place of a file."""
    path.unlink(missing_ok=True)
    path.mkdir()


def shared(path: Path) -> None:
    """Let everybody read it."""
    path.chmod(0o755 if path.is_dir() else 0o644)


def test_usable_parts_are_not_read(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """R-85: the check opens no part: a standby's parts may change while it waits."""

    def refuse(*_: object) -> bytes:
        raise AssertionError("a part was read")

    monkeypatch.setattr(private_file.PrivateFile, "read", refuse)
    state.etcd_mark().close()


@pytest.mark.parametrize(
    "path, spoil, rule",
    [
        ("anchor-card", link, rules.STATE_LINK),
        ("anchor-card/anchor-card", link, rules.STATE_LINK),
        ("tpm", link, rules.STATE_LINK),
        ("tpm/seed", link, rules.STATE_LINK),
        ("anchor-card", empty, rules.CARD_WHOLE),
        ("tpm", empty, rules.TPM_EXTERNAL),
        ("anchor-card/anchor-card", pipe, rules.CARD_WHOLE),
        ("tpm/seed", other_folder, rules.TPM_SEED),
        ("tpm/external", pipe, rules.TPM_EXTERNAL),
        ("anchor-card/anchor-card", shared, rules.CARD_MODE),
        ("anchor-card", shared, rules.CARD_MODE),
        ("tpm/seed", shared, rules.TPM_MODE),
        ("tpm", shared, rules.TPM_MODE),
    ],
    ids=lambda each: getattr(each, "__name__", str(each)),
)
def test_an_unusable_part_is_refused_before_the_wait(
    state: State, path: str, spoil: Callable[[Path], None], rule: Rule
) -> None:
    """R-85: links, kinds and modes: found while the operator looks, not at the take-over."""
    spoil(state.folder / path)
    with pytest.raises(SwpksError) as refused:
        state.etcd_mark()
    assert refused.value.rule is rule
    assert path.split("/", maxsplit=1)[0] in refused.value.message


def test_a_part_of_another_user_is_refused_before_the_wait(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-85: parts that were copied by root, without their owner."""
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    with pytest.raises(StorageError, match="anchor-card can't be read: Permission denied"):
        state.etcd_mark()


@pytest.mark.parametrize(
    "spoil, rule",
    [(link, rules.STATE_LINK), (pipe, rules.NVRAM_WRITABLE), (other_folder, rules.NVRAM_WRITABLE)],
)
def test_the_mark_is_a_plain_file(state: State, spoil: Callable[[Path], None], rule: Rule) -> None:
    """R-85: a link or a pipe in the place of the mark is the operator's fault."""
    state.etcd_mark().close()
    spoil(state.folder / "service-processor" / "nvram.etcd-mark")
    with pytest.raises(OperatorError) as refused:
        state.etcd_mark()
    assert refused.value.rule is rule
