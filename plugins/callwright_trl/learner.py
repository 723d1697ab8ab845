"""The steps of a run that several processes make together: each draws and scores its share, all hold the whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from accelerate import PartialState
from callwright.hooks import BadNumber
from callwright.loop import Learner, OldScores
from callwright.sampling import Generation, GenerationRequest
from callwright.types import Rollouts
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from callwright_trl.processes import from_main, gathered, share_generators, share_of, through, whole_weights


@dataclass
class Parts:
    """How a step's rows are dealt out: to processes, and within a process to the parts of its gradient."""

    rollouts: Rollouts
    shares: Tensor
    """(N,) or (N, T): each token's share of the loss, over all processes."""
    old: OldScores
    mine: list[list[int]]
    """This process's rows by part, some of which may be empty."""


@dataclass
class SharedLearner(Learner):
    """A Learner of which every process has one. All of them hold the same completions, rewards and plugin states; the
    deck and the plugins are asked everywhere with the same numbers, so that nothing needs to be sent for them. Rewards
    are asked in the main process only: they may be slow, or count their requests."""

    processes: PartialState = field(kw_only=True)
    wrapped: nn.Module | None = None
    """The model as accelerate has wrapped it; None before."""

    def draw(self, request: GenerationRequest) -> Generation:
        """Each process draws for its share of the prompts, and all get everything."""
        # Drawn ahead of the sharing out, so that the numbers are the same in however many processes.
        self.draw_uniforms(request)
        if self.processes.num_processes > 1:
            request.finished = None  # rewards are asked in one process, about everything
        mine = share_of(len(request.prompts), self.processes.process_index, self.processes.num_processes)
        with self.whole_model():
            self.sampler.synchronise()  # every process, also one that has nothing to draw
            own = super().draw(request.of_prompts(mine)) if mine else None
        return Generation.concatenate([part for part in gathered(own) if part is not None])

    def wrap(self, model: nn.Module) -> None:
        """`model` is the policy's as it is trained from now on."""
        self.wrapped = model
        if any(isinstance(module, FSDPModule) for module in model.modules()):
            # FSDP2 takes the first module that runs for the outermost one, and the policy runs inner ones directly.
            through(model, model, torch.zeros, ())

    @contextmanager
    def whole_model(self) -> Iterator[None]:
        """Within this, the policy's weights are whole in every process."""
        if self.wrapped is None:
            yield
        else:
            with whole_weights(self.wrapped):
                yield

    def with_replayed(self, rollouts: Rollouts) -> Rollouts:
        with self.whole_model():
            return super().with_replayed(rollouts)

    def reward(self, rollouts: Rollouts) -> BadNumber | None:
        problem = None
        if self.processes.is_main_process:
            problem = self.hooks.score(rollouts)
        told = from_main((rollouts.verdicts, rollouts.rewards, problem, self.hooks.reward_news()))
        rollouts.verdicts, rollouts.rewards, problem, news = told
        self.hooks.take_reward_news(news)
        share_generators()
        return self.total(rollouts, problem)

    def reference_logps(self, rollouts: Rollouts) -> Tensor:
        """Each process scores its share of the rows."""
        mine = share_of(len(rollouts), self.processes.process_index, self.processes.num_processes)
        with self.whole_model():
            own = super().reference_logps(rollouts.select(list(mine))) if mine else torch.zeros(0, 1)
        result = torch.zeros(rollouts.mask.shape)
        start = 0
        for part in gathered(own):
            result[start : start + len(part), : part.shape[1]] = part
            start += len(part)
        return result

    # ---------------------------------------------------------------------------------------------------- update

    def deal(self, rollouts: Rollouts, parts: int) -> Parts | None:
        """The rows that have a gradient, by process and part, about as many tokens in each. None if no row has one."""
        rows, shares = self.rows_to_learn(rollouts)
        if not rows:
            return None
        count = self.processes.num_processes * parts
        everybody = deal(rows, self.tokens_by_row(rollouts, rows), count)
        mine = [everybody[part * self.processes.num_processes + self.processes.process_index] for part in range(parts)]
        old = OldScores.empty(rollouts, self.hooks.top_logps, self.policy.device)
        return Parts(rollouts, shares, old, mine)

    def tokens_by_row(self, rollouts: Rollouts, rows: list[int]) -> dict[int, int]:
        """What each of these rows adds to a pass forward: its completion, and its prompt, which a group has once."""
        lengths, groups = rollouts.lengths.tolist(), rollouts.group_ids.tolist()
        first = {groups[row]: row for row in reversed(rows)} if self.policy.packed else {}
        return {
            row: int(lengths[row]) + (len(rollouts.prompt_ids[row]) if first.get(groups[row], row) == row else 0)
            for row in rows
        }

    def no_loss(self, rollouts: Rollouts) -> Tensor:
        """0 with a gradient of 0, of one row: every process must take part in every exchange of gradients."""
        one = rollouts.select([0])
        logps, _ = self.policy.score(one.prompt_ids, one.completion_ids, one.mask, one.temperature, entropy=False)
        return logps.sum() * 0.0

    def part_loss(
        self, parts: Parts, number: int, *, first_pass: bool
    ) -> tuple[Tensor, dict[str, float], BadNumber | None]:
        """The loss of a part, as a share of the whole step's, its figures, and what is wrong with it: then it is no
        loss, of the same pass forward. Another pass in one process alone would gather weights that nobody sends."""
        rows = parts.mine[number]
        if not rows:
            return self.no_loss(parts.rollouts), {}, None
        batch = self.micro_batch(parts.rollouts, rows, parts.shares, parts.old, first_pass=first_pass)
        try:
            return *self.loss_of(batch), None
        except BadNumber as error:
            return batch.logps.sum() * 0.0, {}, error


def deal(rows: list[int], tokens: dict[int, int], count: int) -> list[list[int]]:
    """`rows` in `count` neighbouring pieces of about as many tokens each. The pieces are in the rows' order, and
    together they are all rows."""
    total, spent = sum(tokens[row] for row in rows), 0
    pieces: list[list[int]] = [[] for _ in range(count)]
    for row in rows:
        middle = spent + tokens[row] / 2
        pieces[min(int(middle * count / max(total, 1)), count - 1)].append(row)
        spent += tokens[row]
    return pieces
