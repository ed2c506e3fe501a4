"""The requests about named snapshots, as in `hcall_abi.requests`."""

from __future__ import annotations

from hcall_abi.bounds import LONGEST_PASSPHRASE, SHORTEST_PASSPHRASE
from hcall_abi.errors import OperatorError
from hcall_abi.mistakes import check_text, of_caller
from hcall_abi.requests import VERB_OF, ConsoleRequest
from hcall_abi.rules import snapshot as rules
from hcall_abi.snapshot_bodies import (
    NamedSnapshot,
    SnapshotComparison,
    SnapshotLoading,
    SnapshotSaving,
    is_snapshot_name,
)
from hcall_abi.snapshot_views import (
    LoadedSnapshotView,
    SavedSnapshotView,
    SnapshotDiffView,
    SnapshotsView,
    SnapshotView,
)

__tracebackhide__ = of_caller


def list_snapshots() -> ConsoleRequest[SnapshotsView]:
    """List the snapshots of the system; none of them is opened."""
    return ConsoleRequest(VERB_OF["listSnapshots"], SnapshotsView)


def save_snapshot(
    name: str, passphrase: str | None = None, *, force: bool = False
) -> ConsoleRequest[SavedSnapshotView]:
    """Save a snapshot; with a passphrase, a portable one.  `force` replaces one of the same name."""
    body = SnapshotSaving(name=_checked(name), passphrase=_secret(passphrase), force=force)
    return ConsoleRequest(VERB_OF["saveSnapshot"], SavedSnapshotView, body=body)


def load_snapshot(
    name: str, passphrase: str | None = None, *, keep_uuid: bool = False
) -> ConsoleRequest[LoadedSnapshotView]:
    """Load a snapshot: its partitions must be powered off.  Contents go back, and counters never do."""
    body = SnapshotLoading(name=_checked(name), passphrase=_secret(passphrase), keep_uuid=keep_uuid)
    return ConsoleRequest(VERB_OF["loadSnapshot"], LoadedSnapshotView, body=body)


def show_snapshot(name: str, passphrase: str | None = None) -> ConsoleRequest[SnapshotView]:
    """Show a snapshot; a portable one is opened if its passphrase is given."""
    body = NamedSnapshot(name=_checked(name), passphrase=_secret(passphrase))
    return ConsoleRequest(VERB_OF["showSnapshot"], SnapshotView, body=body)


def diff_snapshot(
    name: str, other: str | None = None, passphrase: str | None = None
) -> ConsoleRequest[SnapshotDiffView]:
    """Compare a snapshot with another one, or with the present system."""
    other = other if other is None else _checked(other)
    body = SnapshotComparison(name=_checked(name), other=other, passphrase=_secret(passphrase))
    return ConsoleRequest(VERB_OF["diffSnapshot"], SnapshotDiffView, body=body)


def remove_snapshot(name: str) -> ConsoleRequest[SnapshotsView]:
    """Remove a snapshot; the answer lists the others."""
    return ConsoleRequest(VERB_OF["removeSnapshot"], SnapshotsView, body=NamedSnapshot(name=_checked(name)))


def _checked(name: str) -> str:
    """Return a name of a snapshot; OperatorError for any other text."""
    check_text("the name of a snapshot", name)
    if not is_snapshot_name(name):
        raise OperatorError(rules.SNAPSHOT_NAME, f"{name[:80]!r} is no name for a snapshot")
    return name


def _secret(passphrase: str | None) -> str | None:
    """Return a passphrase of a right length; OperatorError for any other, which does not show it."""
    if passphrase is None:
        return None
    check_text("passphrase", passphrase)
    if not SHORTEST_PASSPHRASE <= len(passphrase) <= LONGEST_PASSPHRASE:
        raise OperatorError(rules.SNAPSHOT_PASSPHRASE, f"the passphrase has {len(passphrase)} characters")
    return passphrase
