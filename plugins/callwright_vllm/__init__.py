"""Completions drawn by vLLM: `rollouts: {use: vllm}`."""
