"""Completions drawn by vLLM: in this process with `rollouts: vllm`, by a server with `rollouts: vllm_server`.

- `sampler`, `server`: the two plugins. `requests` and `weights`: what both send to vLLM, and read of it.
- `serve`: starts the server. `worker`: the part of callwright that runs inside vLLM.
"""

NO_PROCESS_LOGITS = (
    "vLLM does not tell its logits processors which row a sample is nor, as it schedules ahead, its newest token; write"
    " rollouts: local"
)
"""Why that hook cannot act in either."""

ENGINE = {
    "load_format": "dummy",  # weights come from the policy
    "logprobs_mode": "processed_logprobs",  # of the distribution that tokens are drawn from
    "generation_config": "vllm",  # no sampling defaults of the model's: the plan is the recipe's
    "enable_prefix_caching": True,
}
"""How either starts vLLM."""
