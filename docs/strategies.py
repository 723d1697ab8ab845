"""Writes docs/strategies.md from the installed strategies themselves: `make docs`; a test holds the file to it."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any

from callwright.hooks import HOOKS
from callwright.judging import marked
from callwright.plugins import catalogue, find

TITLES = {
    "task_weights": "Which prompts a step takes",
    "sampling": "How completions are drawn",
    "process_logits": "How each token is drawn",
    "replay": "Completions of earlier steps",
    "shape_rewards": "Rewards",
    "keep_groups": "Groups",
    "advantages": "Advantages (one per recipe)",
    "shape_advantages": "Advantages, token by token",
    "token_weights": "Weights of tokens",
    "policy_loss": "The policy's loss (one per recipe)",
    "loss_terms": "Terms of the loss",
    "step_ended": "Between steps",
}
"""A strategy stands under the first of these hooks that it implements."""

HEAD = """# Strategies

Every exploration strategy that callwright ships, from the plugins themselves (`make docs`). Name one under `explore:`
in a recipe, with its options:

```yaml
explore:
  - {use: entropy_advantage, alpha: 0.4, kappa: 2}
  - {use: temperature, schedule: linear, start: 0.7, end: 1.0}
```

Strategies compose: what each contributes is folded by a rule that does not depend on their order
(`core/callwright/hookspecs.py`). Of those that replace the advantage, and of those that replace the policy's loss, a
recipe takes one. `callwright check recipe.yaml` refuses what does not go together and says why;
`callwright check --laws NAME` holds a strategy to the laws of all strategies. What cannot be written as a plugin yet,
and why: [hook-limits.md](hook-limits.md).

Rewards are in units of reward, A is an advantage, H an entropy in nats, ρ a ratio of probabilities. Options show their
defaults; the class's docstring has the whole formula, units and ranges.
"""  # noqa: RUF001


def strategies() -> list[tuple[str, type[Any]]]:
    """Name and class of every explorer of this distribution, by name."""
    names = sorted(e.name for e in catalogue() if e.kind == "explorer" and e.distribution == "callwright")
    return [(name, find("explorer", name)[0]) for name in names]


def _options(cls: type[Any]) -> str:
    fields = [field for field in dataclasses.fields(cls) if field.init]
    return ", ".join(f"`{field.name}: {_shown(field)}`" for field in fields) or "none"


def _shown(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        value = field.default
    elif field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    else:
        return "(required)"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else f"{value}"


def _row(name: str, cls: type[Any]) -> str:
    hooks = ", ".join(f"`{hook}`" for hook in HOOKS if hook in marked(cls))
    cells = [f"`{name}`", hooks, cls.formula, _options(cls), cls.source, cls.use_when]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def document() -> str:
    """The whole text of docs/strategies.md."""
    parts = [HEAD]
    left = strategies()
    for hook, title in TITLES.items():
        here = [(name, cls) for name, cls in left if hook in marked(cls)]
        if not here:
            continue
        left = [pair for pair in left if pair not in here]
        rows = "\n".join(_row(name, cls) for name, cls in here)
        head = "| name | hooks | formula | options and defaults | source | when to use it |\n|---|---|---|---|---|---|"
        parts.append(f"## {title}\n\n{head}\n{rows}\n")
    assert not left, f"no hook of TITLES: {left}"
    return "\n".join(parts)


if __name__ == "__main__":
    target = Path(inspect.getfile(strategies)).with_suffix(".md")
    target.write_text(document(), encoding="utf-8")
    print(f"wrote {target.name}")
