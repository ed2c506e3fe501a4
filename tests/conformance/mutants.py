"""Wrong servers.

Each mutant changes one thing of a right server, and the cases of one chapter must find it.
"""

from __future__ import annotations

from tests.conformance import mutants_of_calls, mutants_of_objects
from tests.conformance.proxy import Mutant


def all_mutants() -> list[Mutant]:
    """Return every mutant, in the order of the chapters."""
    return [*mutants_of_calls.mutants(), *mutants_of_objects.mutants()]
