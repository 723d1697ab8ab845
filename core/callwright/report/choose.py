"""Which completions a page shows when a run has more than it can hold."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Sequence

Key = tuple[int, int]
"""Step, from 1, and row of the step's file, from 0."""


def choose(rows: Sequence[tuple[Key, str, str]], limit: int | None, wanted: Collection[Key] = ()) -> list[Key]:
    """At most `limit` rows, as whole groups. rows: key, group (different in each step), task.

    First the groups of the rows in `wanted`; then task by task, in an order that depends on the tasks' names alone, so
    that a task that is shown is shown in all of its steps, and runs with the same tasks show the same ones.
    """
    if limit is None or len(rows) <= limit:
        return [key for key, _, _ in rows]
    groups: defaultdict[tuple[int, str], list[Key]] = defaultdict(list)
    tasks: defaultdict[str, dict[tuple[int, str], None]] = defaultdict(dict)
    for key, group, task in rows:
        groups[key[0], group].append(key)
        tasks[task][key[0], group] = None
    asked = set(wanted)
    order = [group for group, keys in groups.items() if not asked.isdisjoint(keys)]
    for task in sorted(tasks, key=lambda name: hashlib.sha256(name.encode("utf-8", "replace")).digest()):
        order += tasks[task]
    chosen: dict[tuple[int, str], None] = {}
    left = limit
    for name in order:
        if name not in chosen and len(groups[name]) <= left:
            chosen[name] = None
            left -= len(groups[name])
    return sorted(key for name in chosen for key in groups[name])
