"""Old import paths that stay for one release, with a warning that names the new place."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Mapping
from types import ModuleType

STACKLEVEL = 3
"""The caller of `moved` is the old module; the frames of the import system below it are not counted."""


def moved(old: str, new: str, modules: Mapping[str, str]) -> list[ModuleType]:
    """Warn that module `old` is now `new`, and return the loaded modules that have its names.

    `modules` maps each old module name to its new one.  The old names of submodules are entered into
    `sys.modules`: `import old.sub` then finds the one module there is, not a second copy of it whose
    classes differ from those of the first.
    """
    warnings.warn(f"{old} has moved to {new}", DeprecationWarning, stacklevel=STACKLEVEL)
    found = {name: importlib.import_module(place) for name, place in modules.items()}
    sys.modules.update({name: module for name, module in found.items() if name != old})
    return list(found.values())
