"""The golden frames in spec/vectors/frames, with the sender of each."""

import json
from pathlib import Path
from typing import Any

VECTORS = Path(__file__).resolve().parents[2] / "spec" / "vectors" / "frames"

Vector = dict[str, Any]


def load(name: str) -> list[Vector]:
    """Return the vectors in one file."""
    found: list[Vector] = json.loads((VECTORS / f"{name}.json").read_text("utf-8"))
    return found


def frames_of(vectors: list[Vector]) -> list[tuple[str, bytes]]:
    """Return the sender and the bytes of each vector."""
    other = {"server": "client", "client": "server"}
    return [(v.get("from") or other[v["to"]], bytes.fromhex(v["hex"])) for v in vectors]
