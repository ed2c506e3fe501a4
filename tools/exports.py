"""Write the files that are made from the tables of the contract for other languages.

python tools/exports.py --write     write them
python tools/exports.py --check     fail if a file differs from the output of this program
"""

import sys
from collections.abc import Callable
from pathlib import Path

from hcall_abi.export import c_header

ROOT = Path(__file__).resolve().parent.parent
FILES: dict[str, Callable[[], str]] = {"swpks/include/swpks/pks.h": c_header.header}
"""Each generated file, by its path in this repository, with the function that returns its text."""


def different() -> list[str]:
    """Return the files whose text is not that of the tables."""
    return [name for name, text in FILES.items() if _text(ROOT / name) != text()]


def _text(path: Path) -> str | None:
    return path.read_text("utf-8") if path.is_file() else None


def main() -> None:
    """Check or write all files."""
    names = different()
    if "--write" in sys.argv:
        for name in names:
            (ROOT / name).write_text(FILES[name](), "utf-8")
    elif names:
        sys.exit(f"files differ from the tables; run tools/exports.py --write for: {', '.join(names)}")


if __name__ == "__main__":
    main()
