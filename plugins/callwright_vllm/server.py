"""The sampler `vllm_server`, found through its entry point; listing and checking do not load torch for it."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from callwright.types import CallwrightError

from callwright_vllm import NO_PROCESS_LOGITS

if TYPE_CHECKING:
    from callwright.packing import Policy
    from callwright.recipe import Recipe
    from callwright.sampling import Generation, GenerationRequest
    from transformers import PreTrainedTokenizerBase

    from callwright_vllm.requests import Ask, Completion

START = "python -m callwright_vllm.serve RECIPE"
RETRIES = 3


@dataclass
class VllmServerSampler:
    """Draws completions with a vLLM server, on other GPUs or machines.

    `python -m callwright_vllm.serve RECIPE` starts it.

    Before the first completion after an update, the policy's weights go into files, from which the server's workers
    read them; then the server's prefix cache is emptied. vLLM need not be installed where the training runs. Everything
    else is as with `vllm`.
    """

    url: str = "http://127.0.0.1:8000"
    """Where the server is. No other trainer may use it at the same time."""
    folder: str | None = None
    """Where the weights are written, for a moment: a folder that trainer and server see under the same name. Default: a
    temporary folder, for a server on the same machine."""
    timeout: float = 1800.0
    """Seconds that a request may take until it is asked again, three times; a step's last one waits for all the
    others."""
    key_env: str = "VLLM_API_KEY"
    """The environment variable with the server's key, if it asks for one."""

    refuses: ClassVar[dict[str, str]] = {"process_logits": NO_PROCESS_LOGITS}

    stale: bool = field(default=True, init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"url must begin with http:// or https://, not '{self.url}'")
        if self.timeout <= 0:
            raise ValueError(f"timeout must be above 0, not {self.timeout}")
        self.open = ExitStack()

    def start(self, policy: Policy, tokenizer: PreTrainedTokenizerBase, recipe: Recipe) -> None:
        """Connect. Raises CallwrightError where the server cannot be reached, or serves another model."""
        if find_spec("openai") is None:
            raise CallwrightError("rollouts: vllm_server needs a client: pip install 'callwright[judge]'")
        import openai
        import torch
        from callwright.endpoint import event_loop, key_in

        from callwright_vllm.weights import require_followable

        require_followable(policy.causal_lm)
        self.policy, self.tokenizer, self.stale = policy, tokenizer, True
        in_a_group = torch.distributed.is_available() and torch.distributed.is_initialized()
        self.processes = torch.distributed.get_world_size() if in_a_group else 1
        self.main = self.processes == 1 or torch.distributed.get_rank() == 0
        # Its own retries are enough here: a server of one's own has no rate limit to obey.
        self.client = openai.AsyncOpenAI(
            base_url=self.url, api_key=key_in(self.key_env) or "none", timeout=self.timeout, max_retries=RETRIES
        )
        self.submit = self.open.enter_context(event_loop(self.client.close))
        (model,) = self._ask("GET", "/v1/models")["data"][:1]
        self.name, self.context = model["id"], int(model["max_model_len"])
        served = self._on_workers("callwright_served")
        self._require_same_model(served)
        self.dtype = getattr(torch, served.pop("dtype"))

    def _require_same_model(self, served: dict[str, Any]) -> None:
        from callwright_vllm.worker import COMPARED

        own = self.policy.causal_lm.config.to_dict()
        for name in COMPARED:
            if own.get(name) != served[name]:
                raise CallwrightError(
                    f"rollouts: the server at {self.url} serves another model than the one that is trained: its {name}"
                    f" is {served[name]}, not {own.get(name)}; start it with this run's recipe: {START}"
                )

    def weights_changed(self) -> None:
        self.stale = True

    def synchronise(self) -> None:
        """Give the policy's weights to the server, if it has others, and have it forget what it computed with those.
        Of several processes the first one does; all of them return when it has."""
        if not self.stale:
            return
        problem: list[CallwrightError | None] = [None]
        if self.main:
            try:
                self._send()
            except CallwrightError as error:
                problem = [error]
        if self.processes > 1:
            import torch

            torch.distributed.broadcast_object_list(problem)
        if problem[0] is not None:
            raise problem[0]
        self.stale = False

    def _send(self) -> None:
        from safetensors import SafetensorError

        from callwright_vllm.weights import write_weights

        try:
            with tempfile.TemporaryDirectory(prefix="callwright-weights-", dir=self.folder) as name:
                folder = Path(name).absolute()
                folder.chmod(0o755)  # the server may run under another name
                write_weights(self.policy.causal_lm, folder, self.dtype)
                self._on_workers("callwright_load", str(folder))
        except (OSError, SafetensorError) as error:  # the latter for a full disk
            raise CallwrightError(
                f"rollouts: the weights cannot be written for vLLM: {error}; name another place: rollouts.folder=PATH"
            ) from error
        if not self._ask("POST", "/reset_prefix_cache")["success"]:
            raise CallwrightError(
                f"rollouts: the server at {self.url} is at work for somebody else, and its cache cannot be emptied;"
                " give every run a server of its own"
            )

    def close(self) -> None:
        """The server goes on."""
        self.open.close()

    # -------------------------------------------------------------------------------------------- completions

    def generate(self, request: GenerationRequest) -> Generation:
        """Raises CallwrightError for a prompt that does not fit, and for `process_logits`, which cannot act here."""
        from callwright_vllm.requests import draw

        def answers(asked: Sequence[Ask]) -> list[list[Completion]]:
            return self.submit(self._answers(asked, request)).result()

        return draw(request, self.tokenizer, self.context, answers)

    async def _answers(self, asked: Sequence[Ask], request: GenerationRequest) -> list[list[Completion]]:
        """Of all requests at once: vLLM schedules them."""
        done = 0

        async def one(ask: Ask) -> list[Completion]:
            nonlocal done
            body = {**ask.settings, "model": self.name, "prompt": ask.prompt, "return_token_ids": True}
            body.pop("detokenize")  # the server always does
            answer = await self._request("POST", "/v1/completions", body)
            done += 1
            if request.progress is not None:
                request.progress(request.max_new_tokens * done // len(asked), request.max_new_tokens)
            return [_completion(choice) for choice in answer["choices"]]

        if request.progress is not None:
            request.progress(0, request.max_new_tokens)
        return await asyncio.gather(*map(one, asked))

    # ------------------------------------------------------------------------------------------------- requests

    def _on_workers(self, method: str, *arguments: str) -> Any:
        """The first worker's answer; with tensor and data parallelism all of them do the same."""
        body = {"method": method, "args": list(arguments), "timeout": self.timeout}
        return self._ask("POST", "/collective_rpc", body)["results"][0]

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        return self.submit(self._request(method, path, body)).result()

    async def _request(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """The server's answer. Raises CallwrightError where there is none, with what to do."""
        import httpx2
        import openai

        start = f"start it on this run's recipe: {START}"
        try:
            if method == "GET":
                response = await self.client.get(path, cast_to=httpx2.Response)
            else:
                response = await self.client.post(path, body=body, cast_to=httpx2.Response)
        except openai.APITimeoutError:
            raise CallwrightError(
                f"rollouts: the vLLM server at {self.url} gave no answer within {self.timeout:g} s,"
                f" {RETRIES + 1} times; look at its log, or raise rollouts.timeout"
            ) from None
        except openai.APIConnectionError as error:
            raise CallwrightError(
                f"rollouts: the vLLM server at {self.url} cannot be reached: {error.__cause__ or error}; {start}, or"
                " mend rollouts.url; `callwright train ... --resume` goes on"
            ) from None
        except openai.APIStatusError as error:
            said = error.body.get("message") if isinstance(error.body, dict) else None
            text = " ".join(str(said or error.message).split())[:400]
            if error.status_code in (401, 403):
                repair = f"put its key into the environment variable {self.key_env}"
            elif error.status_code == 404 and path != "/v1/completions":
                repair = f"it is no server of vLLM for training: {start}"
            else:
                repair = "look at its log"
            raise CallwrightError(
                f"rollouts: the vLLM server at {self.url} answers {path} with {error.status_code}, {text}; {repair}"
            ) from None
        answer: dict[str, Any] = response.json()
        return answer


def _completion(choice: dict[str, Any]) -> Completion:
    """Of an entry in the server's `choices`."""
    from callwright_vllm.requests import Completion

    ids = list(choice["token_ids"])
    logps = choice["logprobs"]["token_logprobs"] if choice["logprobs"] else [0.0] * len(ids)
    return Completion(ids, logps, choice["finish_reason"] == "length")
