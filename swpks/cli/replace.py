"""`swpks hmc replace PART --state DIR`: replace a part of a powered-off system."""

from __future__ import annotations

import argparse
import json

from hcall_abi.errors import SwpksError
from hcall_abi.rules.rule import Fault
from hcall_abi.scarcity import scarcity_of
from hcall_server.service.layout import replace_part
from hcall_server.service.locked import LockedState
from hcall_server.service.state_folder import trouble
from swpks.cli import hmc_output as output
from swpks.cli import streams

REFUSED, USAGE, STORAGE = 1, 2, 3


def replace(args: argparse.Namespace) -> int:
    """Put a new part in and keep the old one; return the exit status.

    0 done, 1 refused, such as for a running system; 2 without --state; 3 the storage fails.
    """
    if args.state is None:
        streams.complain("swpks hmc replace: name the powered-off system: --state DIR (or SWPKS_STATE)")
        return USAGE
    try:
        with LockedState(args.state) as locked:
            try:
                old = replace_part(locked.folder, args.part)
            except OSError as error:
                raise scarcity_of(error) or trouble(error, locked.folder) from None
    except SwpksError as error:
        streams.complain(json.dumps(output.failure(error)) if args.json else f"swpks hmc replace: {error}")
        return STORAGE if error.fault is Fault.STORAGE else REFUSED
    kept = f"the old one lies in {old}" if old else "it was new already"
    answer = {"part": args.part, "old": str(old) if old else None}
    streams.say(json.dumps(answer) if args.json else f"{args.part} is new; {kept}")
    return 0
