"""docs/system.svg is readable and complete: no label crosses anything, and every room has a label."""

import re

import pytest

from tests.pages.picture import Picture, read
from tests.spec.markdown import ROOT

SVG = (ROOT / "docs" / "system.svg").read_text("utf-8")
PICTURE = read(SVG)
COMMENTS = 58
"""The column in which the words of ARCHITECTURE.md's picture end, and their explanations begin."""
GAP = 2
"""Pixels between a label and an edge, at least."""

SHOWN = {
    "cli": "swpks lpar", "hmc": "swpks hmc serve", "qemu": "swpks qemu",
    "service": "swpks serve: a managed system",
    "console": "register of migrations", "control_channel": "control channel", "data_channel": "data channel",
    "mobility": "mobility channel", "machine": "power, IPL, sizes,", "faults": "faults on demand",
    "writeback": "encryptor", "components": "anchor card, TPM", "nvram": "NVRAM",
    "sealing": "AES-256-GCM blobs,",
    "hcalls": "argument checks", "platform": "custody, moves", "secvar": "signed updates",
    "wrapping": "policies, wrapping,", "keystore": "keystore", "guests": "operating system (3)",
    "following": "where.sock", "channel": "frames",
}  # fmt: skip
"""The label of each room of ARCHITECTURE.md's picture that a user meets."""
HIDDEN = {
    "swpks", "hcall_server", "hcall_client", "hcall_abi", "testing", "bench", "demo", "events", "blocking",
    "process", "files", "folders", "failpoints", "trace", "calls", "keys", "request",
}  # fmt: skip
"""Rooms without a label: packages, test tools, and parts of a client, a process or the data channel."""


def crossings(picture: Picture) -> list[str]:
    """Return each label that lies on the edge of a box, on an arrow, or on another label."""
    found = []
    for number, (text, room) in enumerate(picture.labels):
        near = room.grown(GAP)
        if any(near.meets(box) and not box.holds(near) for box in picture.boxes):
            found.append(f"{text!r} crosses a box")
        if any(room.meets(point) for point in picture.arrows):
            found.append(f"{text!r} lies on an arrow")
        if any(room.meets(other.box) for other in picture.labels[number + 1 :]):
            found.append(f"{text!r} lies on another label")
    return found


def test_no_label_crosses_anything() -> None:
    """No label crosses anything, even in a font that is 5 % wider."""
    assert len(PICTURE.labels) > 30
    assert crossings(PICTURE) == []


@pytest.mark.parametrize("label,found", [
    ('<text x="300" y="90">h-calls in packed</text>', "crosses a box"),
    ('<text x="225" y="124">frames</text>', "lies on an arrow"),
    ('<text x="125" y="30">partition</text>', "lies on another label"),
    ('<text x="1000" y="20">outside</text>', "crosses a box"),
])  # fmt: skip
def test_a_label_in_a_wrong_place_is_found(label: str, found: str) -> None:
    """The check reports each kind of wrong position."""
    assert any(found in line for line in crossings(read(SVG.replace("</svg>", f"{label}</svg>"))))


def test_every_part_of_the_house_is_in_the_picture() -> None:
    """Each room has a label in the picture, or is in the list of rooms without a label."""
    page = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    house = page.split("```")[1]
    rooms = {word for line in house.splitlines() for word in re.findall(r"[a-z_]+", line[:COMMENTS])}
    labels = "\n".join(label.text for label in PICTURE.labels)
    assert SHOWN.keys() | HIDDEN == rooms - {"in", "spec"}
    assert [label for label in SHOWN.values() if label not in labels] == []
