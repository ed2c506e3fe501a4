"""docs/cluster.md is true: three members, two servers, a take-over, a client, and TLS to etcd."""

from __future__ import annotations

import re
import shutil

import pytest

from tests.debian.reporting import needed
from tests.nvram.etcd_members import free_ports
from tests.pages.ends import repository, with_end
from tests.pages.page_blocks import PageBlocks
from tests.pages.sessions import follow
from tests.spec.markdown import ROOT, Session, tables

PAGE = ROOT / "docs" / "cluster.md"
_PORT = re.compile(r"(?<=:)[1-9]\d{4}\b|(?<=\"127\.0\.0\.1\", )\d{5}")
"""A port of the page.  The test takes free ones: those of the page may be in use on this machine."""


class FreePorts:
    """Free ports in the place of those of the page, each the same at all its places."""

    def __init__(self, texts: list[str]) -> None:
        shown = sorted({port for text in texts for port in _PORT.findall(text)})
        self._ports = dict(zip(shown, map(str, free_ports(len(shown))), strict=True))

    def __len__(self) -> int:
        return len(self._ports)

    def changed(self, text: str) -> str:
        """Return the text with the free ports."""
        return _PORT.sub(lambda found: self._ports[found[0]], text)


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.usefixtures("not_measured")
def test_a_take_over_step_by_step(
    tmp_path_factory: pytest.TempPathFactory, page_blocks: PageBlocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-85: the commands of the page run in order, and print what it shows. No process is left."""
    for program in ("etcd", "curl"):
        needed(program, shutil.which(program))
    steps, (program,) = page_blocks.session(), page_blocks.programs()
    ports = FreePorts([*steps.commands, program])
    assert len(ports) == 10
    work = tmp_path_factory.mktemp("c")  # the path of a socket has to be short
    monkeypatch.setenv("TMPDIR", str(work))
    place = repository(work / "r")
    (place / "find.py").write_text(ports.changed(program))
    commands, shown = map(ports.changed, steps.commands), map(ports.changed, steps.shown)
    steps = Session(list(commands), steps.guest, steps.output, list(shown), steps.typed)
    # The reader saves the program in the folder of the page.
    steps.commands[1] += f"; cp {place / 'find.py'} ."
    follow(place, with_end(steps, "", ""))


def test_the_figures_are_those_of_the_report() -> None:
    """The table of the page has the medians of bench/results/nvram, with two digits that count."""
    report = (ROOT / "bench" / "results" / "nvram" / "results.md").read_text("utf-8")
    measured = dict(re.findall(r"^\| commit of (.*?) \| [\d,]+/s \| ([\d.,]+) \|", report, re.MULTILINE))
    sizes = {"1 partition of 4 KiB": "4 KiB", "1 partition of 64 KiB": "64 KiB"}
    sizes["16 partitions of 64 KiB"] = "16 x 64 KiB"
    (table,) = [each for each in tables(PAGE.read_text("utf-8")) if each[0][0] == "commit"]
    assert [row[0] for row in table[1:]] == list(sizes)
    for name, *shown in table[1:]:
        for cell, place in zip(shown, ("SQLite", "etcd, 1 node", "etcd, 3 nodes"), strict=True):
            found = float(measured[f"{sizes[name]}, {place}"].replace(",", "")) / 1000
            assert cell == (f"{found:.1f} ms" if found < 10 else f"{found:.0f} ms")
