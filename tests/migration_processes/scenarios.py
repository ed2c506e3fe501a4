"""The list of all scenarios with kills: live moves, inactive migrations, remote restarts."""

from __future__ import annotations

from tests.migration_processes.inactive import INACTIVE
from tests.migration_processes.live import LIVE, Scenario
from tests.migration_processes.restarts import RESTARTS

SCENARIOS: dict[str, Scenario] = {**LIVE, **INACTIVE, **RESTARTS}
