"""Trusted system keys during a job: a copy opens only under the key under which it was made.

The console has these keys only in sealed form.  A system accepts a key that it has sealed itself.  A system
with another root key accepts none of these keys.  Then the operator has to bring the key as a file (`chtskey
-o restore`).

An operator may bring a wrong file.  So a refusal names the key that is needed and the present key.
"""

from __future__ import annotations

import shlex

from hcall_abi.errors import SwpksError
from hcall_abi.requests import set_trusted_key, show_trusted_key
from hcall_abi.rules import backup as rules
from hcall_server.console.jobs import JobRun
from hcall_server.console.store import ConsoleStore

_BEFORE = "key before"
"""The step with the id of the key that the system had before the job, "" for none."""


class KeyRing:
    """Sets the trusted system keys that a job needs, and sets the earlier key again at the end."""

    def __init__(self, run: JobRun, store: ConsoleStore) -> None:
        self._run = run
        self._store = store
        self._present: str | None = None
        self._refused: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"KeyRing({self._present!r})"

    async def _look(self) -> None:
        """Read the present key of the system; store the key in sealed form."""
        view = await self._run.call(show_trusted_key())
        self._present = self._store.keep_shown_key(self._run.system.key, view)
        # The earlier key is stored once for each job.  After a kill, the present key may be one that this job
        # has set.
        if _BEFORE not in self._run.steps:
            self._run.note(_BEFORE, self._present)

    async def use(self, key_id: str, *, raises: bool = False) -> str:
        """Set the key with an id; return "", or the reason why that is impossible.

        The system refuses a new key while a partition runs.  With `raises`, this refusal is raised as
        SwpksError (trusted-key.idle): the operator may power the partition off later.
        """
        if self._present is None:
            await self._look()
        if self._present == key_id:
            return ""
        refused = self._refused.get(key_id) or await self._set(key_id, raises=raises)
        if refused:
            # The refusal is remembered.  Without that, each further copy under this key would repeat a
            # useless request.
            self._refused[key_id] = refused
        return refused

    def forget(self) -> None:
        """Forget the present key after the system was replaced; the next `use` reads it again."""
        self._present = None

    async def back(self, otherwise: str) -> str:
        """Set the key that the system had before the job.

        If the system had no key, the key with the id `otherwise` is set.  Return "", or the reason why the
        system keeps another key.
        """
        wanted = self._run.steps.get(_BEFORE) or otherwise
        refused = await self.use(wanted) if wanted else ""
        return refused and f"the trusted system key {wanted} is not set back: {refused}"

    async def _set(self, key_id: str, *, raises: bool) -> str:
        sealed = self._store.trusted_key(self._run.system.key, key_id)
        if sealed is None:
            return self._other(key_id, "the console does not hold that key")
        try:
            view = await self._run.call(set_trusted_key("return", sealed=sealed))
        except SwpksError as error:
            if raises and error.rule is rules.TRUSTED_KEY_IDLE:
                raise
            if error.rule not in (rules.TRUSTED_KEY_SEALED, rules.TRUSTED_KEY_IDLE):
                raise
            if error.rule is rules.TRUSTED_KEY_IDLE:
                return (
                    f"{self._run.system.name} does not take the trusted system key {key_id}: {error.message}"
                )
            return self._other(key_id, error.message)
        self._present = view.id or ""
        return "" if self._present == key_id else f"the sealed trusted system key {key_id} is another one"

    def _other(self, key_id: str, reason: str) -> str:
        """Return why the key with an id is not set, and the command that sets it from a file."""
        name = self._run.system.name
        command = f"`chtskey -m {shlex.quote(name)} -o restore --newkey FILE`"
        keys = f"the copies need the trusted system key {key_id}, and {name} has {self._present or 'none'}"
        return f"{keys} ({reason}): set {key_id} from its file with {command}"
