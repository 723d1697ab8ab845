"""Texts that break careless verifiers."""

from __future__ import annotations

from collections.abc import Sequence

TEXTS: tuple[str, ...] = (
    "",
    " ",
    "\x00",
    "\ud800",
    "[f(a='\ud800')]",
    "<think>\x00</think><answer>[f(a='\x00')]</answer>",
    "[" * 5000,
    "(" * 3000 + ")" * 3000,
    "{" * 5000,
    '{"a":' * 3000,
    "[f(a=" + "[" * 300 + "]" * 300 + ")]",
    "[f(a=10**10**10)]",
    "[f(a=" + "9" * 5000 + ")]",
    "[f(a=1e999)]",
    "[f(a=" + "-" * 3000 + "1)]",
    "[f(a='x' * 10**9)]",
    "exit()+1",
    "[exit()]",
    "[__import__('os').abort()]",
    "[f(a=__import__('os').abort())]",
    "[f(**{'a': 1})]",
    "[f(*[1])]",
    "[f(a=1, a=2)]",
    "[f(1)(2)]",
    "[f(a=lambda: 1)]",
    "[f(a={[]: 1})]",
    "[f(a={1: 2, None: 3, (1, 2): 4})]",
    "[f(a=float('nan'))]",
    "[f(a=1j)]",
    "[f(a=b'x')]",
    "[f(a=...)]",
    '<tool_call>{"name": null, "arguments": 3}</tool_call>',
    '<tool_call>{"name": "f", "arguments": "{"}</tool_call>',
    '<tool_call>{"name": ["f"], "arguments": {}}</tool_call>',
    '[{"name": {}, "arguments": []}]',
    '{"name": "f", "parameters": {"a": NaN, "b": Infinity}}',
    '[TOOL_CALLS][{"name": 1}]',
    "<think>" * 500,
    "</think><think></answer><answer>",
    "<think><answer>[f()]</answer></think>",
    "\u202e]()f[ \u2028\u2029\x85",
    "\uff46(\uff41=\uff11)",
)


def pumped(text: str, length: int) -> list[str]:
    """Long texts made of a right completion: it repeated, and its characters that open something repeated.

    At most `length` characters each.
    """
    seeds: Sequence[str] = (text, "[", "f(", "<think>", '{"a":', "\\", "f(a=1), ", "a ", " ", "\n", "1", "'")
    return [(seed * (length // max(len(seed), 1) + 1))[:length] for seed in seeds]
