"""Renders the overview as HTML, by the templates beside this module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hcall_abi.errors import OperatorError
from hcall_abi.rules import hmc as rules
from hcall_server import __version__
from swpks.hmc import overview_words as words
from swpks.hmc.overview_views import Overview

if TYPE_CHECKING:
    import jinja2


class Rendering:
    """The templates of the page; OperatorError if jinja2 is not installed."""

    def __init__(self) -> None:
        self._templates = _environment()
        self._state = (0, "", "")

    def __repr__(self) -> str:
        return f"Rendering(overview {self._state[0]})"

    def page(self, number: int, overview: Overview, nonce: str, *, live: bool) -> str:
        """Return the whole page; with `live` it has the script that keeps it current."""
        state = self.state(number, overview)
        facts: dict[str, Any] = {"overview": overview, "state": state, "nonce": nonce, "live": live}
        return self._templates.get_template("page.html").render(facts, number=number, version=__version__)

    def state(self, number: int, overview: Overview) -> str:
        """Return the part of the page that changes; it is made once for each number."""
        made = (number, overview.run)
        if self._state[:2] != made:
            text = self._templates.get_template("state.html").render(overview=overview)
            self._state = (*made, text)
        return self._state[2]


def _environment() -> jinja2.Environment:
    """Return the environment of the templates: every value is escaped, and a wrong name is an error."""
    try:
        import jinja2
    except ImportError:
        message = "the page needs jinja2: install swpks with its extra, pip install 'swpks[console]'"
        raise OperatorError(rules.HMC_PAGE_PACKAGES, message, advised=True) from None
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("swpks.hmc.page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["words"] = words
    return made
