"""The rooms: their modules, their tests, how many mutants are drawn, and the least score."""

from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]

LEAST_OF_ALL = 98.0
"""Percent of all mutants that are not equivalent which tests have to kill."""


class Room(NamedTuple):
    """A room: its folder, the size of its sample, its least score in percent, the folders of its tests."""

    folder: str
    drawn: int
    least: float
    tests: tuple[str, ...]

    @property
    def modules(self) -> list[Path]:
        """The modules of the room."""
        return sorted((ROOT / self.folder).rglob("*.py"))


ROOMS = {
    "keystore": Room(
        "hcall_server/keystore",
        110,
        96.0,
        ("keystore", "platform", "hcalls", "writeback", "sealing"),
    ),
    "hcalls": Room(
        "hcall_server/hcalls",
        110,
        95.0,
        ("hcalls", "rules", "platform", "data_channel", "faults", "spec", "scarcity"),
    ),
    "hcall_abi": Room(
        "spec/hcall_abi",
        150,
        95.0,
        ("abi", "spec", "wrapping", "platform", "secvar", "client", "hcalls", "rules", "data_channel",
         "control_channel", "sealing", "faults"),
    ),
    "secvar": Room(
        "hcall_server/secvar",
        90,
        95.0,
        ("secvar", "hcalls", "rules"),
    ),
    "writeback": Room(
        "hcall_server/writeback",
        110,
        96.0,
        ("writeback", "rules", "service", "control_channel", "faults"),
    ),
    "sealing": Room(
        "hcall_server/sealing",
        110,
        95.0,
        ("sealing", "writeback", "rules", "spec", "service", "faults"),
    ),
}  # fmt: skip
