"""The whole demo: a partition locks its objects, loses power and parts, gets its store back, and moves.

The demo uses real things: a server process, its Unix sockets, `swpks hmc` and `swpks asmi`, kill -9, and the
most realistic disk that the host permits.  It writes only to its own folder.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from hcall_abi.errors import OperatorError
from hcall_abi.rules import storage as rules
from swpks.demo.stage import DemoStage, Unwatched
from swpks.testing.short_paths import short_path

if TYPE_CHECKING:
    from swpks.demo.play import Step

UNWATCHED = 1
"""Exit status if the output can no longer be written."""
INTERRUPTED = 130
"""Exit status after Ctrl-C, SIGTERM or a terminal that is gone."""


def play(state: Path | None = None, *, keep: bool = False, steps: Sequence[Step] | None = None) -> int:
    """Run the demo; return its exit status.

    The status is 0 if all checks held, and 130 after an interrupt.  It is 1 if a check failed, or if the
    output is closed.

    `state` is a new or empty folder for all files, which stays.  None means a temporary folder, which is
    removed unless `keep` is true.  Tests replace the steps of the story by `steps`.
    """
    import trio

    # Imported here, because `swpks demo --help` needs neither Trio nor cryptography.
    from swpks.demo.story import STEPS, perform

    stage = DemoStage(sys.stdout)
    try:
        with _signals_interrupt(), _folder(state, keep=keep) as folder:
            return 0 if trio.run(perform, stage, folder, steps or STEPS) else 1
    # A nursery of Trio puts an interrupt into a group, so groups are caught too.
    except (KeyboardInterrupt, BaseExceptionGroup) as error:
        if _has(error, Unwatched):
            return UNWATCHED
        if not _has(error, KeyboardInterrupt):
            raise
        with contextlib.suppress(OSError):
            print("swpks demo: interrupted", file=sys.stderr)
        return INTERRUPTED


def _has(error: BaseException, kind: type[BaseException]) -> bool:
    """Return whether an error is of this kind, or is a group that contains one."""
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(kind) is not None
    return isinstance(error, kind)


@contextlib.contextmanager
def _folder(wanted: Path | None, *, keep: bool) -> Iterator[Path]:
    """Yield the folder of the demo; at the end, remove a temporary folder unless `keep` is true."""
    folder = Path(tempfile.mkdtemp(prefix="swpks-demo-")) if wanted is None else _named(wanted)
    try:
        with short_path(folder) as short:  # a long TMPDIR would make the paths too long for sockets
            yield short
    finally:
        if wanted is None and not keep:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                print(f"kept: {folder}; to use it again: swpks serve --state {folder / 'state'}")


def _named(wanted: Path) -> Path:
    folder = wanted.absolute()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        taken = any(folder.iterdir())
    except OSError as error:
        raise OperatorError(rules.STATE_WRITABLE, f"{folder}: {error.strerror or error}") from None
    if taken:
        raise OperatorError(rules.STATE_EMPTY, f"{folder} is not empty")
    return folder


@contextlib.contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Make SIGTERM and SIGHUP interrupt a block as Ctrl-C does, so that the demo ends its processes."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        signal.raise_signal(signal.SIGINT)

    wanted = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: interrupt}
    # Under nohup, SIGHUP is ignored; it has to stay so.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        wanted[signal.SIGHUP] = interrupt
    before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
