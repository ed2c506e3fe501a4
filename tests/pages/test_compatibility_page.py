"""docs/compatibility.md is true for an upgrade and a step back. This release is the earlier one.

A script stands for the later release, because none exists yet. It runs this release, and then gives the
anchor card a level that no release has. Two more scripts save seconds. One replaces `pip`: it chooses one
of the two releases. The other replaces `venv`: it makes an empty environment.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hcall_server.components.anchor_card import CARD_LEVELS
from tests.pages.page_blocks import PageBlocks
from tests.pages.sessions import follow

PIP = """#!/bin/sh
[ "$1 $2" = "install -q" ] && [ $# = 3 ] && [ -x "$3/swpks" ] || { echo "no release: $*"; exit 1; }
ln -sf "$(realpath "$3")/swpks" "$(dirname "$0")/swpks"
"""
LATER = f"""#!{sys.executable}
import hashlib, os, signal, subprocess, sys
from pathlib import Path

def raise_to(level):
    card = Path("state/anchor-card/anchor-card")
    body = bytearray(card.read_bytes()[:-32])
    body[4] = level
    card.write_bytes(bytes(body) + hashlib.sha256(body).digest())

command = [os.environ["EARLIER"], *sys.argv[1:]]
if "serve" not in command:
    os.execv(command[0], command)
raise_to({max(CARD_LEVELS)})
server = subprocess.Popen(command, close_fds=False)
signal.signal(signal.SIGTERM, lambda *_: server.terminate())
status = server.wait()
raise_to({max(CARD_LEVELS) + 1})
sys.exit(status)
"""


PYTHON3 = """#!/bin/sh
[ "$*" = "-m venv env" ] && mkdir -p env/bin && touch env/bin/activate
"""


@pytest.mark.process
@pytest.mark.usefixtures("not_measured")
def test_an_upgrade_and_a_step_back(
    tmp_path_factory: pytest.TempPathFactory, page_blocks: PageBlocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-22: the commands of the page run in order. At the end, the earlier release serves the saved state."""
    earlier = Path(sys.executable).parent / "swpks"
    work = tmp_path_factory.mktemp("u")  # the path of a socket has to be short
    given = work / "given"
    for name, text in (
        ("swpks-0.1.0/swpks", f'#!/bin/sh\nexec "{earlier}" "$@"\n'),
        ("swpks-0.2.0/swpks", LATER),
        ("bin/pip", PIP),
        ("bin/python3", PYTHON3),
    ):
        path = given / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    monkeypatch.setenv("TMPDIR", str(work))
    both = page_blocks.session()
    assert len(both.commands) > 18
    both.commands[0] += f"; cp -r {given}/. .; export PATH=$PWD/bin:$PATH EARLIER={earlier}"
    follow(work, both)
    assert len(list(work.glob("*/state.later"))) == 1
