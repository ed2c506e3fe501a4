"""Each scenario of a migration by kills, of every kind: live, inactive, remote restart."""

from __future__ import annotations

from tests.migration_processes.inactive import INACTIVE
from tests.migration_processes.live import LIVE, Scenario
from tests.migration_processes.restarts import RESTARTS

SCENARIOS: dict[str, Scenario] = {**LIVE, **INACTIVE, **RESTARTS}
