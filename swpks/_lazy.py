"""Names of a package whose modules are loaded at their first use (PEP 562).

`import swpks` must be quick: the blocking client does not load Trio, and no client loads the server.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazily(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` of a package whose names are defined in other modules.

    `homes` maps a module to its names, separated by spaces.  If the module is the package itself, the names
    are submodules.  A loaded name is stored in the package; the next use does not call `__getattr__`.
    """
    home_of = {name: module for module, names in homes.items() for name in names.split()}
    loaded = sys.modules[package].__dict__

    def get(name: str) -> Any:
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if home_of[name] == package:
            return importlib.import_module(f"{package}.{name}")
        value = loaded[name] = getattr(importlib.import_module(home_of[name]), name)
        return value

    return get, lambda: sorted({*home_of, *(name for name in loaded if name.startswith("__"))})
