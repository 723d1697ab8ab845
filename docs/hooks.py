"""Writes docs/hooks.md from core/callwright/hookspecs.py and the installed plugins: `make docs`; a test holds the file
to it."""

from __future__ import annotations

import functools
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

from callwright import hookspecs
from callwright.judging import marked
from callwright.plugins import catalogue

THEN = {
    "task_weights": "draws the step's prompts",
    "sampling": "starts group_size completions of each prompt; for every token:",
    "process_logits": "draws the token; in the end parses each completion, once",
    "replay": "adds them to their groups, scored by the policy as it is now",
    "score": "combines the rewards of each row (rewards.combine)",
    "shape_rewards": "adds them up: the reward of every row",
    "keep_groups": "draws others for those refused, from `sampling` on (train.refills)",
    "advantages": "spreads them over the tokens",
    "shape_advantages": "adds them up",
    "token_weights": "cuts the rows into micro-batches; for each, train.passes times:",
    "policy_loss": "weighs, masks, aggregates",
    "loss_terms": "sums them, and computes gradients; in the end the optimizer steps",
    "step_ended": "does what was asked through `control`",
}
"""What the core does with the fold of each hook."""

HEAD = """# Hooks

Every hook, from `core/callwright/hookspecs.py` (`make docs`), in the order in which a step calls it; beside each the
rule by which the core folds what plugins return, and below what the core then does.

```text
{diagram}
```

{intro}
"""


def document() -> str:
    """The whole text of docs/hooks.md."""
    sections = list(_sections())
    parts = [HEAD.format(diagram=_diagram(sections), intro=_markdown(inspect.getdoc(hookspecs) or "", 1))]
    for title, hooks in sections:
        parts.append(f"## {title.capitalize()}\n")
        parts += [_hook(hook) for hook in hooks]
    return "\n".join(parts)


def _sections() -> Iterator[tuple[str, list[str]]]:
    """(title, hooks) as the file is divided."""
    pieces = re.split(r"^# -+ (\w+)$", inspect.getsource(hookspecs), flags=re.MULTILINE)
    for title, code in zip(pieces[1::2], pieces[2::2], strict=True):
        yield title, re.findall(r"^@hookspec.*\ndef (\w+)", code, re.MULTILINE)


def _diagram(sections: list[tuple[str, list[str]]]) -> str:
    lines = ["a step"]
    for title, hooks in sections:
        lines += ["│", f"├─ {title}"]
        for hook in hooks:
            lines += [f"│    {hook:18}{_fold(hook)}", f"│        the core {THEN[hook]}"]
    return "\n".join([*lines, "│", "the next step"])


def _fold(hook: str) -> str:
    """Of the fold rule, the words that tell it from the others."""
    said = re.search(r"^Fold: ([^.:;,]+)", _doc(hook), re.MULTILINE)
    if said is None:
        return "none"
    return "exactly one" if said[1].startswith("exactly one") else "by name" if "by the" in said[1] else said[1]


def _doc(hook: str) -> str:
    return inspect.getdoc(getattr(hookspecs, hook)) or ""


def _hook(hook: str) -> str:
    signature = f"def {hook}{inspect.signature(getattr(hookspecs, hook))}: ..."
    if len(signature) > 100:
        parameters = inspect.signature(getattr(hookspecs, hook)).parameters.values()
        inside = "".join(f"    {parameter},\n" for parameter in parameters)
        signature = f"def {hook}(\n{inside}){signature[signature.rindex(' -> ') :]}"
    parts = [f"### `{hook}`\n", f"```python\n{signature.replace(chr(39), '')}\n```\n", _markdown(_doc(hook), 0)]
    if users := _users(hook):
        parts.append(f"\nImplemented by {', '.join(users)}.")
    return "\n".join(parts) + "\n"


def _users(hook: str) -> list[str]:
    """The plugins of this distribution that implement a hook, with a link to where they are described."""
    pages = {"explorer": "strategies.md", "reward": "rewards.md"}
    return [f"[`{name}`]({pages[kind]})" for kind, name, hooks in _implemented() if kind in pages and hook in hooks]


@functools.cache
def _implemented() -> list[tuple[str, str, set[str]]]:
    """(kind, name, hooks) of every plugin of this distribution."""
    entries = [entry for entry in catalogue() if entry.distribution == "callwright"]
    return [(entry.kind, entry.name, set(marked(entry.load()))) for entry in entries]


def _markdown(text: str, skipped_lines: int) -> str:
    """A docstring as Markdown: code blocks fenced, the words that structure it in bold."""
    parts = []
    for block in re.split(r"\n{2,}(?=\S)", "\n".join(text.splitlines()[skipped_lines:]).strip("\n")):
        prose, gap, code = block.partition("\n\n    ")
        prose = re.sub(r"^(Returns|Fold:|Example)", r"**\1**", prose)
        prose = re.sub(r"\n- ", "\n\n- ", prose, count=1)
        parts.append(prose)
        if gap:
            code = textwrap.dedent("    " + code).rstrip()
            code = code.replace("\n\n@dataclass", "\n\n\n@dataclass")  # as ruff writes it, which looks here too
            parts.append(f"```python\n{code}\n```")
    return "\n\n".join(parts)


if __name__ == "__main__":
    target = Path(inspect.getfile(document)).with_suffix(".md")
    target.write_text(document(), encoding="utf-8")
    print(f"wrote {target.name}")
