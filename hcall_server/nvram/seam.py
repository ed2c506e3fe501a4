"""The interface of NVRAM: a store of sealed records, and its errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

from hcall_abi.errors import OperatorError, StorageError
from hcall_abi.rules import storage as rules
from hcall_abi.rules.rule import Rule

PlaceCheck = Callable[[], str | None]
"""Returns in words why a file that NVRAM depends on is no longer in place; None if it is."""

Trouble = Literal["full", "io", "busy", "corrupt"]
"""The kind of an error: no space; an I/O error or a lost file; a lock of another process; damage."""


class NvramError(StorageError):
    """An operation of NVRAM failed; `kind` is the reason.

    After a failed commit, NVRAM has all old records or all new ones, and never a mixture.  `Nvram.commit`
    promises more about it.
    """

    def __init__(self, kind: Trouble, message: str, rule: Rule = rules.NVRAM_COMMIT) -> None:
        super().__init__(rule, message)
        self.kind: Trouble = kind


class NvramInUseError(OperatorError):
    """Another server has this NVRAM open.  `advice` is the remedy, if it is not obvious."""

    def __init__(self, place: str, advice: str = "") -> None:
        message = f"another server uses this state: {place} is held"
        super().__init__(rules.STATE_OWNER, f"{message}; {advice}" if advice else message)


class CommitLimits(NamedTuple):
    """The largest commit of a back end: most bytes of names and blobs, and most records."""

    size: int
    records: int


class Mark(Protocol):
    """The high-water mark of one NVRAM: two slots of bytes.

    The contents are made and checked with a key of the system (`sealing.commits`).  Every function raises
    NvramError if it fails.
    """

    def slots(self) -> tuple[bytes, ...]:
        """Return the contents of the slots, in order.

        Zeros may follow each content.  A slot that was never written is b"".
        """

    def make_durable(self, content: bytes, genuine: Sequence[int]) -> None:
        """Make `content` durable in the slot other than the newest; each later `note` writes to the newest.

        `genuine` has the slots with a genuine mark, the newest first.
        """

    def note(self, content: bytes) -> None:
        """Store the number of a durable commit.

        It returns before the mark itself is durable.
        """

    def close(self) -> None:
        """Release the place; a second close does nothing."""


class Ownership(Protocol):
    """The right to use NVRAM that other servers may take over; any thread may read it."""

    @property
    def over(self) -> bool:
        """Whether another server may be the owner.  Once it is over, it stays over."""


class Nvram(Protocol):
    """A place for sealed records, by name.

    One thread at a time uses it, but not always the same one.  Every function raises NvramError if it fails.
    """

    # There is no operation that reads a record by its name.  A start loads all records, and afterwards memory
    # has the present state.  So a back end needs durable transactions, and hardly any queries.

    @property
    def mark(self) -> Mark:
        """The high-water mark: the number of the last commit that is known to be durable."""

    @property
    def old_number(self) -> int:
        """The number of the last commit in NVRAM of sealed level 1; 0 at later levels."""

    @property
    def always_newest(self) -> bool:
        """Whether `load` returns the newest records, whatever happens to the files of this host.

        Then a start needs no high-water mark.  If there is a mark, it is still checked.
        """

    @property
    def ownership(self) -> Ownership | None:
        """The right of this server to use it; None if no other server can take it over."""

    @property
    def limits(self) -> CommitLimits | None:
        """The largest commit; None if every commit fits.

        The caller splits a larger one, and then each part is all or nothing.
        """

    def load(self) -> dict[str, bytes]:
        """Return every record."""

    def commit(self, changes: Mapping[str, bytes | None]) -> None:
        """Put these records, and remove those that are None: all or nothing, durable on return.

        A commit that failed may have taken effect, or may still do so.  After the next commit that succeeds,
        neither it nor any older commit takes effect any more.

        Without changes, it only checks that the next start will find the committed records.
        """

    def last_commit(self) -> bytes | None:
        """Return the commit record that is in effect, None if there is none.

        After it returns, no commit that failed before takes effect any more.
        """

    def close(self) -> None:
        """Release the place; a second close does nothing."""
