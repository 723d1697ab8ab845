"""The trackers that a recipe can name under `trackers`, through the classes of accelerate.

Importing this module imports none of the trackers.
"""

from __future__ import annotations

import importlib.util
import os
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from callwright.plugins import near
from callwright.types import JSON

PROJECT = "callwright"
"""Where a run is filed when the recipe names no project."""


@dataclass(slots=True)
class Opening:
    """What a tracker is told when it is opened."""

    folder: Path
    """The run's."""
    goes_on_from: int
    """Of a resumed run: the last step that the tracker has and that is not made again. Below 1 if there is none."""
    kept: dict[str, JSON]
    """What the tracker wants to find again when the run is resumed, such as its id of the run."""

    @property
    def run_name(self) -> str:
        return self.folder.resolve().name


@runtime_checkable
class Tracker(Protocol):
    """What a plugin under `trackers` has. Optional beside it: `package`, the name of what must be installed;
    `newest_step(tracker, opening) -> int | None`, the last step that a tracker which was opened again has, None where
    it does not know; `forgets_settings = True` if it wants the recipe again whenever it is opened."""

    def open(self, opening: Opening) -> Any:
        """A started `accelerate.tracking.GeneralTracker`; of a resumed run the one that it had."""
        ...


@dataclass(frozen=True, slots=True)
class NamedTracker:
    """A tracker of a run."""

    name: str
    """As the recipe names it; the second of a kind has a number behind it."""
    plugin: Tracker


def missing_package(plugin: object) -> str | None:
    """What is not installed and how to install it; None where all is there."""
    package = getattr(plugin, "package", None)
    if package is None or importlib.util.find_spec(package.replace("-", "_")) is not None:
        return None
    return f"the tracker needs {package}, which is not installed; run pip install {package}"


@dataclass
class TensorBoard:
    """TensorBoard's event files, by default in the run's folder: `tensorboard --logdir runs`."""

    logging_dir: str | None = None
    """Write to PROJECT/RUN in this folder instead of `tensorboard` in the run's."""
    project: str = PROJECT
    """A folder in `logging_dir`."""
    package: ClassVar[str] = "tensorboard"

    def open(self, opening: Opening) -> Any:
        from accelerate.tracking import TensorBoardTracker

        folder, name = opening.folder, "tensorboard"
        if self.logging_dir is not None:
            folder, name = Path(self.logging_dir).expanduser() / self.project, opening.run_name
        # Readers forget what a killed process wrote of the steps that are made again.
        again = {"purge_step": opening.goes_on_from + 1} if opening.kept else {}
        opening.kept["folder"] = str(folder / name)
        return _started(TensorBoardTracker(name, logging_dir=folder, **again))

    def newest_step(self, tracker: Any, opening: Opening) -> int:
        return opening.goes_on_from


@dataclass
class Wandb:
    """Weights & Biases; with `mode: offline` into the run's folder, for `wandb sync`."""

    project: str = PROJECT
    name: str | None = None
    """Of the run. Default: that of the run's folder."""
    entity: str | None = None
    """User or team. Default: as wandb is set up."""
    mode: Literal["online", "offline", "shared", "disabled"] | None = None
    """Default: as the environment says (WANDB_MODE), else online."""
    options: dict[str, JSON] = field(default_factory=dict)
    """More arguments of `wandb.init`, such as tags and group."""
    package: ClassVar[str] = "wandb"

    def open(self, opening: Opening) -> Any:
        from accelerate.tracking import WandBTracker

        opening.kept.setdefault("id", uuid.uuid4().hex[:12])
        given = {"entity": self.entity, "mode": self.mode, "name": self.name or opening.run_name}
        known = {name: value for name, value in given.items() if value is not None}
        settings = {"dir": str(opening.folder), "id": opening.kept["id"], "resume": "allow", **known, **self.options}
        return _started(WandBTracker(self.project, **settings))

    def newest_step(self, tracker: Any, opening: Opening) -> int:
        # It writes in the background, so that a killed process leaves less behind than it was given. Steps that are
        # sent again are W&B's own matter: a resumed run takes none that it has.
        return opening.goes_on_from


@dataclass
class Trackio:
    """trackio, on this machine (in TRACKIO_DIR) or in a Space."""

    project: str = PROJECT
    name: str | None = None
    """Of the run. Default: that of the run's folder."""
    space_id: str | None = None
    """Send to this Space of the Hugging Face hub."""
    options: dict[str, JSON] = field(default_factory=dict)
    """More arguments of `trackio.init`."""
    package: ClassVar[str] = "trackio"
    forgets_settings: ClassVar[bool] = True

    def open(self, opening: Opening) -> Any:
        from accelerate.tracking import TrackioTracker

        resume = "must" if opening.kept else "never"  # another run of this name is none of ours
        name = opening.kept.setdefault("name", self.name or opening.run_name)
        settings: dict[str, JSON] = {"name": name, "resume": resume, "embed": False, **self.options}
        if self.space_id is not None:
            settings["space_id"] = self.space_id
        return _started(TrackioTracker(self.project, **settings))

    def newest_step(self, tracker: Any, opening: Opening) -> int | None:
        from trackio.sqlite_storage import SQLiteStorage

        if self.space_id is not None:
            return None
        run = tracker.tracker
        found: int | None = SQLiteStorage.get_max_step_for_run(run.project, run.name, run.id)
        return found


@dataclass
class MLflow:
    """MLflow: a server, a database or a folder."""

    tracking_uri: str | None = None
    """Such as http://localhost:5000 or sqlite:///runs/mlflow.db. Default: as the environment says
    (MLFLOW_TRACKING_URI), else MLflow's own."""
    project: str = PROJECT
    """MLflow's experiment."""
    name: str | None = None
    """Of the run. Default: that of the run's folder."""
    tags: dict[str, str] = field(default_factory=dict)
    package: ClassVar[str] = "mlflow"

    def open(self, opening: Opening) -> Any:
        # By itself MLflow tries for minutes at every step to reach a server that is gone.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        import mlflow
        from accelerate.tracking import MLflowTracker

        if self.tracking_uri is not None:
            mlflow.set_tracking_uri(self.tracking_uri)
        mlflow.end_run()  # one that another training in this process left behind
        name = self.name or opening.run_name
        tracker = MLflowTracker(self.project, run_id=opening.kept.get("run_id"), run_name=name, tags=self.tags or None)
        tracker.start()
        opening.kept["run_id"] = tracker.tracker.info.run_id
        return tracker

    def newest_step(self, tracker: Any, opening: Opening) -> int | None:
        import mlflow

        history = mlflow.MlflowClient().get_metric_history(tracker.tracker.info.run_id, "seconds")
        return max((point.step for point in history), default=None)


@dataclass
class AnyOfAccelerate:
    """Any other tracker that accelerate knows: aim, clearml, comet_ml, dvclive, swanlab."""

    tracker: str
    """accelerate's name for it."""
    project: str = PROJECT
    options: dict[str, JSON] = field(default_factory=dict)
    """Arguments of accelerate's class."""
    package: str = field(init=False)

    def __post_init__(self) -> None:
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        known = [str(name) for name in LOGGER_TYPE_TO_CLASS]
        if self.tracker not in known:
            repair = near(self.tracker, known)
            raise ValueError(f"accelerate knows no tracker '{self.tracker}'{repair} (known: {', '.join(known)})")
        self.package = {"comet_ml": "comet-ml"}.get(self.tracker, self.tracker)

    def open(self, opening: Opening) -> Any:
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        cls = LOGGER_TYPE_TO_CLASS[self.tracker]
        folder = {"logging_dir": str(opening.folder)} if cls.requires_logging_directory else {}
        opening.kept["opened"] = True
        return _started(cls(self.project, **{**folder, **self.options}))


def _started(tracker: Any) -> Any:
    tracker.start()
    return tracker


def flat(values: JSON, place: str = "") -> dict[str, bool | int | float | str]:
    """Nested settings as one level, the way that trackers take them: `explore.0.alpha`. What is null or empty is left
    out."""
    if isinstance(values, Mapping):
        items = [(str(key), value) for key, value in values.items()]
    elif isinstance(values, list):
        items = [(str(number), value) for number, value in enumerate(values)]
    else:
        return {} if values is None else {place: values}
    return {key: v for name, value in items for key, v in flat(value, f"{place}.{name}" if place else name).items()}


def loggable(name: str) -> str:
    """A metric's name in the letters that every tracker takes, and that would do as a path."""
    return "/".join(part for part in re.sub(r"[^\w./ -]", "_", name).split("/") if part.strip("."))
