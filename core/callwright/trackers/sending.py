"""Sending a run's metrics to its trackers. A tracker that fails costs the run nothing but a warning."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from callwright.files import replacing
from callwright.plugins import summary
from callwright.trackers.plugins import NamedTracker, Opening, Tracker, flat, loggable
from callwright.types import JSON

LONGEST_PAUSE = 64
"""Steps that a tracker is left alone at most after it failed: 1, 2, 4, ... of them, so that one that answers nobody
until it times out slows few steps down."""
WAITING = 10_000
"""Steps that are kept for a tracker that fails; older ones are given up."""

Metrics = dict[str, float]


@dataclass
class _Channel:
    """One tracker, and what it has not got yet."""

    name: str
    plugin: Tracker
    kept: dict[str, JSON] = field(default_factory=dict)
    """What the tracker finds again when the run is resumed."""
    configured: bool = False
    """It has the recipe."""
    tracker: Any = None
    newest: int = -1
    """The last step that the tracker has."""
    waiting: list[tuple[int, Metrics, bool]] = field(default_factory=list)
    """Step, metrics, and whether they come on top of what the step has already."""
    given_up: int = 0
    failures: int = 0
    """In a row."""
    retry_at: int = 0
    warned: bool = False


class Trackers:
    """All trackers of a run, in the process that writes the run's folder.

    Every step reaches a tracker once. A resumed run goes on in the tracker's own run: what the tracker lacks is read
    from `metrics.jsonl`, and a step that is made again is not sent again where the tracker has it already.
    """

    def __init__(
        self, folder: Path, trackers: Sequence[NamedTracker], config: JSON, warn: Callable[[str], None]
    ) -> None:
        self.folder, self.config, self.warn = folder, flat(config), warn
        self.channels = [_Channel(one.name, one.plugin) for one in trackers]
        self.steps_done = 0

    @property
    def _state(self) -> Path:
        return self.folder / "trackers.json"

    def start(self, steps_done: int) -> None:
        """Open all trackers. `steps_done`: those that the run's folder holds, above 0 after a resume."""
        self.steps_done = steps_done
        if self.channels:
            from accelerate import PartialState

            PartialState()  # accelerate's trackers ask it which process this is
        state = _read_state(self._state) if self.channels else {}
        for channel in self.channels:
            known = state.get(channel.name, {})
            channel.kept, channel.configured = known.get("kept", {}), known.get("configured", False)
            channel.newest = known.get("newest", -1)
            channel.waiting = _recorded(self.folder / "metrics.jsonl", steps_done)
            self._send(channel, steps_done)
        self._keep()

    def log(self, step: int, metrics: Mapping[str, float | None], on_top: bool = False) -> None:
        """Send the metrics of step `step` (from 1; 0 is before training) to every tracker. Numbers that are not finite
        are left out. `on_top`: more of a step that was logged already."""
        numbers = {loggable(name): value for name, value in metrics.items() if value is not None}
        for channel in self.channels:
            channel.waiting.append((step, numbers, on_top))
            if step >= channel.retry_at:
                self._send(channel, step)
            surplus = max(0, len(channel.waiting) - WAITING)
            channel.given_up += surplus
            del channel.waiting[:surplus]
        self._keep()

    def finish(self) -> None:
        """Try once more to send what waits, say what could not be sent, and close the trackers."""
        for channel in self.channels:
            if channel.waiting:
                self._send(channel, channel.waiting[-1][0])
            if lost := len(channel.waiting) + channel.given_up:
                self.warn(
                    f"tracker '{channel.name}' lacks {lost} steps, which it did not take; metrics.jsonl has them all,"
                    " and --resume sends them again"
                )
            if channel.tracker is not None:
                try:
                    channel.tracker.finish()
                except Exception as error:
                    self._failed(channel, 0, error)
        self._keep()
        self.channels = []

    def _send(self, channel: _Channel, step: int) -> None:
        """Everything that waits, in order, until the tracker fails."""
        try:
            if channel.tracker is None:
                self._open(channel)
            if not channel.configured:
                channel.tracker.store_init_configuration(self.config)
                channel.configured = True
            while channel.waiting:
                number, numbers, on_top = channel.waiting[0]
                if on_top or number > channel.newest:
                    channel.tracker.log(numbers, step=number)
                    channel.newest = max(channel.newest, number)
                channel.waiting.pop(0)
            channel.failures = 0
        except Exception as error:  # a full disk, no network, whatever the tracker's library makes of them
            self._failed(channel, step, error)

    def _open(self, channel: _Channel) -> None:
        opening = Opening(self.folder, min(channel.newest, self.steps_done), dict(channel.kept))
        tracker = channel.plugin.open(opening)
        ask = getattr(channel.plugin, "newest_step", None)
        if channel.kept and ask is not None and (found := ask(tracker, opening)) is not None:
            channel.newest = found
        channel.configured = channel.configured and not getattr(channel.plugin, "forgets_settings", False)
        channel.tracker, channel.kept = tracker, opening.kept

    def _failed(self, channel: _Channel, step: int, error: Exception) -> None:
        channel.retry_at = step + min(2**channel.failures, LONGEST_PAUSE) + 1
        channel.failures += 1
        if not channel.warned:
            channel.warned = True
            self.warn(f"tracker '{channel.name}' fails, and the run goes on without it: {summary(error)}")

    def _keep(self) -> None:
        if not self.channels:
            return
        state = {
            one.name: {"newest": one.newest, "configured": one.configured, "kept": one.kept} for one in self.channels
        }
        with suppress(OSError), replacing(self._state) as temporary:  # the run's own files say that the disk is full
            temporary.write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")


def _read_state(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _recorded(path: Path, steps: int) -> list[tuple[int, Metrics, bool]]:
    """The metrics of the first `steps` steps, as the run's folder has them."""
    found = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if steps else []
    except OSError:
        return []
    for line in lines:
        numbers = json.loads(line)
        step = numbers.pop("step")
        if step <= steps:
            named = {loggable(name): value for name, value in numbers.items() if value is not None}
            found.append((step, named, False))
    return found
