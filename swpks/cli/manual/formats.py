"""Section 5: the configuration file of the server, and the frames of the data channel."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import chain

from swpks.cli.manual.fields import field_lists
from swpks.cli.manual.markdown import section_of, shown
from swpks.cli.manual.mdoc import filled, head, literal
from swpks.cli.manual.prose import EDITION
from swpks.cli.manual.protocol import for_manual
from swpks.cli.manual.references import see_also

Pages = Callable[[str], str]
"""Returns the text of a page of the contract by its name, such as ``spec/service.md``."""

_INTRODUCTION = (
    "`swpks serve --config FILE` reads a file of this form, which is TOML. It has no usual place and no usual"
    " name."
)
_FIELDS = "Each field is shown with its first value, or with one that shows its form."
_EXAMPLE = """
[[partition]]
name = "lpar1"
keystore_kbytes = 64
secure_boot = "enforce"

[[partition]]
name = "lpar2"
keystore_kbytes = 16
keystore_signed_updates = 1
"""


def configuration(pages: Pages, version: str) -> str:
    """Return swpks.toml(5), made from the section of the server's page."""
    text = section_of(pages("spec/service.md"), "Configuration")
    (example,) = re.findall(r"```toml\n.*?\n```\n", text, re.DOTALL)
    limits = section_of(pages("spec/protocol.md"), "Deadlines")
    parts = chain(
        head("swpks.toml", 5, "configuration of a managed system", EDITION, version),
        [".Sh DESCRIPTION"],
        shown(_INTRODUCTION),
        [".Pp"],
        shown(text.replace(example, "")),
        [".Sh FIELDS OF THE FILE"],
        filled(_FIELDS),
        field_lists(example.partition("\n")[2].rpartition("```")[0]),
        [".Sh LIMITS"],
        shown(limits),
        [".Sh EXAMPLES"],
        ["Two partitions:"],
        literal(_EXAMPLE.strip().splitlines()),
        see_also(("swpks(7)", "swpks-serve(1)"), ("service#configuration", "control#attributes")),
    )
    return "\n".join(parts) + "\n"


def frames(pages: Pages, version: str) -> str:
    """Return swpks-frames(5), made from the page of the protocol."""
    page = for_manual(pages("spec/protocol.md"))
    start, _, rest = page.partition("\n## ")
    parts = chain(
        head("swpks-frames", 5, "frames of the data channel of a partition", EDITION, version),
        [".Sh DESCRIPTION"],
        shown(start.partition("\n")[2]),
        shown(f"## {rest}"),
        see_also(
            ("swpks(7)", "swpks-serve(1)", "swpks-lpar(1)", "swpks-c-header(1)", "swpks-dissector(1)"),
            ("protocol", "hcalls/index", "structures"),
        ),
    )
    return "\n".join(parts) + "\n"
