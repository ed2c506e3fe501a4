"""The page about migrations has the time limits, sizes and layouts of the channel."""

import re
from pathlib import Path

from hcall_server.mobility import channel, source, target
from hcall_server.mobility.messages import PURPOSE, VERSION, MessageKind
from hcall_server.mobility.noise import MAX_TEXT, NAME

TEXT = " ".join((Path(__file__).resolve().parents[2] / "spec" / "migration.md").read_text("utf-8").split())


def test_the_bounds_of_the_page_are_those_of_the_code() -> None:
    """R-51: each number of the page is the constant of the code."""
    for words in (
        f"| copy phase, rows 2 to 4 | {source.COPY_SECONDS:.0f} s, then row 3 |",
        f"| PREPARED, after FROZEN: calls wait for it | {source.PREPARED_SECONDS:.0f} s, then row 9 |",
        f"| introduction and handshake together | {channel.OPEN_SECONDS:.0f} s",
        f"| one message, from its first byte to its last | {channel.FRAME_SECONDS:.0f} s |",
        f"| FINAL with the partition, at the target | {channel.FINAL_SECONDS:.0f} s |",
        f"| a token whose partition does not come | {target.EXPECT_SECONDS:.0f} s",
        f"after {source.FIRST_WAIT} s. Each further pause is twice as long, "
        f"up to {source.LONGEST_WAIT:.0f} s",
        f"{target.MAX_UNOPENED} connections may be without a proof",
        f"stays open for {target.AFTER_SECONDS:.0f} s",
        f"at most {MAX_TEXT:,} bytes of plaintext",
        f"`{NAME.decode()}`",
        f"version u16 ({VERSION})",
        f"prologue of the handshake is `{PURPOSE.decode()}`",
    ):
        assert words in TEXT, words


def test_the_kinds_of_the_page_are_those_of_the_code() -> None:
    """R-51: the page lists each kind of message, with its number."""
    listed = dict(re.findall(r"\| (\d) \| ([A-Z]+) \| (?:source|target) \|", TEXT))
    assert listed == {str(int(kind)): kind.name for kind in MessageKind}
