"""The partition that a command tried to reach: the facts that its error needs."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

Target = Path | tuple[str, int]


class Sought(NamedTuple):
    """The partition of a command: its address and name.

    `timeout` is in seconds.  `state` is the state folder, if it is known.  `number` is the id that was
    sent, 0 for none; `key_file` is the file of --access-key-file.
    """

    target: Target
    name: str
    timeout: float
    state: Path | None = None
    number: int = 0
    key_file: Path | None = None

    @property
    def control(self) -> Path | None:
        """The control socket of the partition's system, None if it is not known."""
        run = self.target.parent if isinstance(self.target, Path) else self.state and self.state / "run"
        return run and run / "control.sock"
