"""spec/components.md agrees with the code: layouts, words of the option, numbers, codes."""

import re
from pathlib import Path

import pytest

from hcall_server.components.seam import TPM_PATIENCE
from hcall_server.components.tpm import blobs, bounds, embedded, kinds
from hcall_server.components.tpm.codes import MEANINGS
from hcall_server.components.tpm.commands import SealedBlob

PAGE = (Path(__file__).resolve().parents[2] / "spec" / "components.md").read_text("utf-8")
FLAT = re.sub(r"\s+", " ", PAGE)
LAYOUTS = re.findall(r"^<!-- layout: blobs\.(\S+) -->$", PAGE, re.MULTILINE)


def table(marker: str) -> list[list[str]]:
    """Return the rows of the table after a marker, without its head."""
    lines = PAGE.split(f"<!-- {marker} -->\n", 1)[1].split("\n\n", 1)[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_page_shows_the_layouts_of_the_code(layout: str) -> None:
    """The page has every field of a layout in order, with its offset and width."""
    offset, expected = 0, []
    for field in getattr(blobs, layout).subcons:
        if field.name:
            expected.append([str(offset), str(field.sizeof()), field.name])
            offset += field.sizeof()
    assert [row[:3] for row in table(f"layout: blobs.{layout}")] == expected


def test_every_layout_has_its_table() -> None:
    """Each layout in the code has a table on the page, except BLOB.

    A text describes the parts of a blob.
    """
    defined = {name for name, value in vars(blobs).items() if name.isupper() and hasattr(value, "subcons")}
    assert defined == {*LAYOUTS, "BLOB"}


def test_the_page_gives_the_figures_of_the_code() -> None:
    assert f"`{blobs.EMBEDDED_INFO.decode()}`" in PAGE
    assert f"`{blobs.SEED_MAGIC.decode()}`" in PAGE
    assert f"The file `{embedded.SEED_NAME}`, {blobs.SEED_FILE_SIZE} bytes" in FLAT
    assert f"at most {kinds.SOCKET_PATH_MOST} bytes" in FLAT
    assert f"secret has at most {bounds.SECRET_MOST} bytes" in FLAT
    assert f"Each operation has {TPM_PATIENCE:g} seconds" in FLAT
    assert (
        f"makes {blobs.KEY_SIZE + blobs.NONCE_SIZE} bytes: key {blobs.KEY_SIZE}, nonce {blobs.NONCE_SIZE}"
        in FLAT
    )
    assert f"{len(SealedBlob(bytes(158), bytes(46)).joined())} bytes for a root key" in FLAT


def test_words_and_codes_on_the_page_are_those_of_the_code() -> None:
    assert re.findall(r"^\| `(\w+)(?::[A-Z]+)?` \|", PAGE, re.MULTILINE) == ["embedded", "swtpm", "tcti"]
    about_the_tpm = FLAT.split("Every other code is about the TPM:")[1].split(". The message")[0]
    assert {int(code, 16) for code in re.findall(r"0x[0-9a-f]+", about_the_tpm)} <= MEANINGS.keys()
