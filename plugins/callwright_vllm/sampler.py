"""The sampler `vllm`, found through its entry point; listing and checking load neither torch nor vLLM for it."""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from callwright.types import CallwrightError

from callwright_vllm import ENGINE, NO_PROCESS_LOGITS

if TYPE_CHECKING:
    from callwright.packing import Policy
    from callwright.recipe import Recipe
    from callwright.sampling import Generation, GenerationRequest
    from transformers import PreTrainedTokenizerBase

    from callwright_vllm.requests import Ask, Completion

_ENVIRONMENT = {
    "VLLM_LOGGING_LEVEL": "ERROR",  # it warns of every choice made here
    "VLLM_HOST_IP": "127.0.0.1",  # the engine is in this process: nobody has to be found in a network
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}
"""What vLLM reads when it is imported, unless the user has set it."""
_GIB = 2**30


@dataclass
class VllmSampler:
    """Draws completions with vLLM, in this process, beside the model that is trained.

    Before the first completion after an update it copies the policy's weights into vLLM and forgets the cached keys and
    values. Behaviour log-probabilities are vLLM's own, of the distribution that it drew from; they differ from the
    policy's by rounding, which `importance_correction` corrects and `sampling_difference` in the metrics measures.

    A row's seed comes from the request's numbers, so that the same recipe draws the same on the same machine; they are
    other completions than the local sampler's. Filters are vLLM's: min_p comes before top_k and top_p, and a
    temperature below 0.01 is 0.01.
    """

    gpu_memory_utilization: float = 0.3
    """Share of the GPU's memory for vLLM's weights and cache; training needs the rest."""
    cache_gib: float | None = None
    """GiB for cached keys and values. Default: what `gpu_memory_utilization` leaves; on a CPU, 1."""
    max_model_len: int | None = None
    """Longest prompt and completion together, in tokens. Default: the model's context."""
    enforce_eager: bool | None = None
    """Do not compile the model. Default: only on a CPU, where compiling takes more than a minute."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number format of vLLM's weights and arithmetic. `auto`: that in which the policy computes."""

    refuses: ClassVar[dict[str, str]] = {"process_logits": NO_PROCESS_LOGITS}

    llm: Any = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 < self.gpu_memory_utilization < 1:
            raise ValueError(f"gpu_memory_utilization must be between 0 and 1, not {self.gpu_memory_utilization}")
        for name in ("cache_gib", "max_model_len"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be above 0, not {value}")

    # ------------------------------------------------------------------------------------------------ engine

    def start(self, policy: Policy, tokenizer: PreTrainedTokenizerBase, recipe: Recipe) -> None:
        """Load vLLM. Raises CallwrightError where it is missing, or cannot run or follow this model."""
        if find_spec("vllm") is None:
            raise CallwrightError("rollouts: vllm needs vLLM, which is not installed: pip install 'callwright[vllm]'")
        import torch
        from callwright.quiet import quiet

        from callwright_vllm.weights import require_followable

        require_followable(policy.causal_lm)
        self.policy, self.tokenizer, self.stale = policy, tokenizer, True
        self.on_cpu = policy.device.type == "cpu"
        self.eager = self.on_cpu if self.enforce_eager is None else self.enforce_eager
        self.in_a_group = torch.distributed.is_available() and torch.distributed.is_initialized()
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # weights are handed over as tensors, not through a pipe
        set_num_threads, threads = torch.set_num_threads, torch.get_num_threads()
        try:
            with quiet():
                self.llm = self._engine(recipe.seed)
        except (ValueError, RuntimeError, NotImplementedError) as error:
            reason = " ".join(str(error).split())[:400]  # some list everything that vLLM knows
            raise CallwrightError(f"rollouts: vLLM does not start with this model here: {reason}") from error
        finally:
            # vLLM leaves torch one thread, and on a CPU nobody can change that: but the trainer is in this process.
            torch.set_num_threads = set_num_threads
            torch.set_num_threads(threads)

    def _engine(self, seed: int) -> Any:
        import torch
        from vllm import LLM

        options: dict[str, Any] = {}
        gib = 1.0 if self.cache_gib is None and self.on_cpu else self.cache_gib
        if gib is not None:
            options["kv_cache_memory_bytes"] = int(gib * _GIB)
        if self.in_a_group and torch.distributed.get_world_size() > 1:
            options["distributed_executor_backend"] = "external_launcher"  # an engine in each process, for itself
        dtype = self.policy.autocast_dtype or next(self.policy.model.parameters()).dtype
        with tempfile.TemporaryDirectory() as folder:
            # Weights come from the policy, whatever it was made of: of files vLLM reads the config and the tokenizer.
            config = copy.deepcopy(self.policy.causal_lm.config)
            # FSDP2 gives the class another name; a model that was made without files has none in its config.
            config.architectures = config.architectures or [type(self.policy.causal_lm).__name__]
            config.save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)
            return LLM(
                folder,
                dtype=str(dtype).removeprefix("torch.") if self.dtype == "auto" else self.dtype,
                seed=seed,
                max_model_len=self.max_model_len,
                gpu_memory_utilization=self.gpu_memory_utilization,
                enforce_eager=self.eager,
                **ENGINE,
                **options,
            )

    def weights_changed(self) -> None:
        self.stale = True

    def synchronise(self) -> None:
        """Copy the policy's weights into vLLM, if it has others, and forget what was computed with those."""
        from callwright_vllm.weights import checkpoint_weights
        from callwright_vllm.worker import repack_heads

        if not self.stale:
            return
        weights = checkpoint_weights(self.policy.causal_lm)
        self.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": weights})
        if self.on_cpu:
            self.llm.apply_model(repack_heads)
        self.llm.reset_prefix_cache()
        self.stale = False

    def close(self) -> None:
        """End the engine. It takes the process group with it: in one that was there before, it stays until the process
        ends."""
        if self.llm is not None and not self.in_a_group:
            self.llm.llm_engine.engine_core.shutdown()
            self.llm = None

    # -------------------------------------------------------------------------------------------- completions

    def generate(self, request: GenerationRequest) -> Generation:
        """Raises CallwrightError for a prompt that does not fit, and for `process_logits`, which cannot act here."""
        from callwright_vllm.requests import draw

        if request.progress is not None:
            request.progress(0, request.max_new_tokens)
        drawn = draw(request, self.tokenizer, self.llm.model_config.max_model_len, self._answers)
        if request.progress is not None:
            request.progress(request.max_new_tokens, request.max_new_tokens)
        return drawn

    def _answers(self, asked: Sequence[Ask]) -> list[list[Completion]]:
        import torch
        from vllm import SamplingParams

        prompts = [{"prompt_token_ids": ask.prompt} for ask in asked]
        plans = [SamplingParams(**ask.settings) for ask in asked]
        # vLLM compiles a part of its sampler even so: on a CPU twenty seconds for a comparison.
        with torch.compiler.set_stance("force_eager" if self.eager else "default"):
            outputs = self.llm.generate(prompts, plans, use_tqdm=False)
        return [[_completion(sample) for sample in output.outputs] for output in outputs]


def _completion(sample: Any) -> Completion:
    """Of vLLM's CompletionOutput, which has the log-probabilities of the likeliest tokens beside the drawn one's."""
    from callwright_vllm.requests import Completion

    ids = list(sample.token_ids)
    if sample.logprobs is None:
        logps = [0.0] * len(ids)
    else:
        logps = [float(at[token].logprob) for token, at in zip(ids, sample.logprobs, strict=True)]
    return Completion(ids, logps, sample.finish_reason == "length")
