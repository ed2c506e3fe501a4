"""Section 5: the configuration file of the server, and the frames of the data channel."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import chain

from swpks.cli.manual.markdown import section_of, shown
from swpks.cli.manual.mdoc import filled, head
from swpks.cli.manual.prose import EDITION
from swpks.cli.manual.references import see_also

Pages = Callable[[str], str]
"""Returns the text of a page of the contract by its name, such as ``spec/service.md``."""

_INTRODUCTION = (
    "`swpks serve --config FILE` reads a file of this form, which is TOML. It has no usual place and no usual"
    " name. The example has every field, with its first value or with one that shows its form."
)


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
        [".Sh LIMITS"],
        shown(limits),
        [".Sh FILES"],
        filled(r"\fBFILE\fR is a plain file of at most 1 MiB."),
        [".Sh EXAMPLES"],
        shown(example),
        see_also(("swpks(7)", "swpks-serve(1)"), ("service#configuration", "control#attributes")),
    )
    return "\n".join(parts) + "\n"


def frames(pages: Pages, version: str) -> str:
    """Return swpks-frames(5), made from the page of the protocol."""
    page = pages("spec/protocol.md")
    start, _, rest = page.partition("\n## ")
    parts = chain(
        head("swpks-frames", 5, "frames of the data channel of a partition", EDITION, version),
        [".Sh DESCRIPTION"],
        shown(start.partition("\n")[2]),
        shown(f"## {rest}"),
        see_also(
            ("swpks(7)", "swpks-serve(1)", "swpks-lpar(1)"),
            ("protocol", "hcalls/index", "structures"),
        ),
    )
    return "\n".join(parts) + "\n"
