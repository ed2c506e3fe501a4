"""Files that a build adds to the wheel: pages, vectors, C examples, completion scripts, and manual pages.

An editable install has the pages already: they are beside its package.
"""

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PAGES = "swpks/spec"
VECTORS = ("frames", "wrapped")
EXAMPLES = "docs/examples/c"
"""`swpks c-header --examples` prints this folder."""
GUIDES = ("docs/testing.md",)
"""The same as in swpks/cli/pages.py, which is not importable here before the path is set."""


class AddedFiles(BuildHookInterface[Any]):
    """Adds files to a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the pages, the vectors, the examples, the completion scripts and the manual to the wheel."""
        root = Path(self.root)
        # An editable install reads the pages in spec/, and a copy would not follow their changes.
        if version == "standard":
            build_data["force_include"] |= {
                str(page): f"{PAGES}/{page.relative_to(root / 'spec').as_posix()}"
                for page in sorted((root / "spec").rglob("*.md"))
            }
            # `swpks conformance` sends these golden vectors.
            build_data["force_include"] |= {
                str(vector): f"{PAGES}/{vector.relative_to(root / 'spec').as_posix()}"
                for vector in sorted((root / "spec/vectors/frames").glob("*.json"))
            }
            build_data["force_include"] |= {str(root / guide): f"swpks/{guide}" for guide in GUIDES}
            build_data["force_include"] |= {
                str(example): f"swpks/{EXAMPLES}/{example.name}"
                for example in sorted((root / EXAMPLES).glob("*.c"))
            }
        build_data["shared_data"] |= self._made(root)

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the temporary files: the wheel has them now."""
        shutil.rmtree(self._folder)

    def _made(self, root: Path) -> dict[str, str]:
        """Return the place in the wheel for each completion script and manual page.

        They are made in a temporary folder: the tree may be read-only. The parser loads the module of each
        command. So the tree is in `sys.path` until they are made.
        """
        self._folder = Path(tempfile.mkdtemp(prefix="swpks-build-"))
        sys.path[:0] = [str(root), str(root / "spec")]
        try:
            from swpks.cli.completion import SHELLS, script_of
            from swpks.cli.manual.collected import manual

            texts = {place: script_of(shell) for shell, (place, _) in SHELLS.items()} | manual()
        finally:
            del sys.path[:2]
        placed = {}
        for place, text in texts.items():
            made = self._folder / place
            made.parent.mkdir(parents=True, exist_ok=True)
            made.write_text(text, "utf-8")
            placed[str(made)] = place
        return placed
