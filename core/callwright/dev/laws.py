"""The laws of a reward in a process of their own, quickly: a search with few examples, each result sent as it is there.

`callwright check --laws` looks longer, and writes regression tests.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import traceback
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

from callwright.isolated import follow
from callwright.isolation import Blueprint, Outcome, Reply, restored
from callwright.plugins import summary

EXAMPLES = 4
"""Random tasks per law, beside the fixed ones."""


def serve(descriptor: int, log: int) -> None:
    """Sends a `LawResult` for each law, then None; in place of the rest an `Outcome` with an error."""
    faulthandler.enable(log)
    connection = Connection(descriptor)
    setup: Mapping[str, Any] = connection.recv()
    threading.Thread(target=follow, args=(setup["parent"],), daemon=True).start()
    sys.path[:] = setup["path"]
    connection.send(Reply(Outcome()))
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)  # a reward that prints has printed while it judged the tasks; here it would a thousand times
    os.dup2(silence, 2)
    try:
        from callwright.testing.check import reward_results
        from callwright.testing.scoring import plugin

        blueprint: Blueprint = setup["blueprint"]
        dialect = plugin("dialect", setup["dialect"][0], **setup["dialect"][1])
        found = reward_results(
            restored(blueprint), dialect, examples=EXAMPLES, shrink=False, use=blueprint.use, options=blueprint.options
        )
        for result in found:
            connection.send(result)
        connection.send(None)
    except BaseException as error:  # SystemExit and KeyboardInterrupt too
        connection.send(Outcome(error=summary(error), trace=traceback.format_exc()))
