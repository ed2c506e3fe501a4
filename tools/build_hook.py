"""What a build of the wheel adds: the pages of spec/ inside the package, and completion for the shells.

An editable install has the pages already: they lie beside its package.
"""

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PAGES = "swpks/spec"


class PagesAndCompletion(BuildHookInterface[Any]):
    """Adds files to a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name the pages, and make the completion of the parser in this very tree."""
        root = Path(self.root)
        if version == "standard":
            build_data["force_include"] |= {
                str(page): f"{PAGES}/{page.relative_to(root / 'spec').as_posix()}"
                for page in sorted((root / "spec").rglob("*.md"))
            }
        build_data["shared_data"] |= self._completion(root)

    def _completion(self, root: Path) -> dict[str, str]:
        """Write the scripts below build/, which is not kept; return each with its place."""
        sys.path[:0] = [str(root), str(root / "spec")]
        try:
            from swpks.cli.completion import SHELLS, script_of

            folder = root / "build" / "completion"
            folder.mkdir(parents=True, exist_ok=True)
            placed = {}
            for shell, (place, _) in SHELLS.items():
                (folder / shell).write_text(script_of(shell), "utf-8")
                placed[str(folder / shell)] = place
            return placed
        finally:
            del sys.path[:2]
