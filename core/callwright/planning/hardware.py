"""What devices can do, from their makers' data sheets, and the shares of it that programs reach."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches

from callwright.types import CallwrightError

GIB = 2**30


@dataclass(frozen=True, slots=True)
class Hardware:
    """One GPU, or the CPU of a machine."""

    name: str
    memory: float
    """Bytes that programs can allocate."""
    flops: float
    """Floating-point operations a second in bfloat16 with float32 sums, dense; of a CPU in float32."""
    flops_float32: float
    """The same in float32, without tensor cores: torch's default."""
    bandwidth: float
    """Bytes a second between memory and processor."""
    link: float
    """Bytes a second that one GPU sends to others in its machine while it receives as many."""
    bf16: bool = True
    """Whether `model.precision: auto` means bfloat16."""


def _gpu(name: str, gib: float, tera: float, tera32: float, gigabytes: float, link: float) -> Hardware:
    return Hardware(name, gib * GIB, tera * 1e12, tera32 * 1e12, gigabytes * 1e9, link * 1e9)


# Memory: what torch reports as a device's total, a little below the name. Rates: NVIDIA's data sheet of each product,
# dense (where a sheet gives the rate "with sparsity", half of it). Links: NVLink in one direction, else PCIe 4.0.
HARDWARE: dict[str, Hardware] = {
    gpu.name: gpu
    for gpu in (
        _gpu("b200", 178.0, 2250, 75, 8000, 900),
        _gpu("h200", 139.8, 989.4, 67, 4800, 450),
        _gpu("h100", 79.2, 989.4, 67, 3350, 450),
        _gpu("a100-80", 79.2, 312, 19.5, 2039, 300),
        _gpu("a100-40", 39.4, 312, 19.5, 1555, 300),
        _gpu("l40s", 44.4, 362, 91.6, 864, 32),
        _gpu("l4", 22.0, 121, 30.3, 300, 32),
        _gpu("rtx4090", 23.6, 165.2, 82.6, 1008, 32),
    )
}

CPU_CORE_FLOPS = 65e9
"""Of one core in float32: torch's matrix product of 2,048 x 2,048 numbers on an AMD EPYC (AVX2, 2.6 GHz), measured by
benchmarks/plan.py."""
CPU_BANDWIDTH = 27e9
"""Bytes a second that torch sums up on the same machine, two cores."""


def cpu(cores: int | None = None, memory: float | None = None) -> Hardware:
    """The CPU of this machine, or one with so many cores and bytes."""
    if cores is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if memory is None:
        memory = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    flops = cores * CPU_CORE_FLOPS
    return Hardware("cpu", memory, flops, flops, CPU_BANDWIDTH, CPU_BANDWIDTH, bf16=False)


def hardware(name: str) -> Hardware:
    """By name. Raises CallwrightError for a name that is unknown."""
    key = name.lower()
    if key == "cpu":
        return cpu()
    if key not in HARDWARE:
        near = get_close_matches(key, HARDWARE, n=1, cutoff=0.4)
        hint = f"did you mean '{near[0]}'?" if near else "choose one that is like it"
        raise CallwrightError(f"--gpu '{name}' is unknown; {hint} Known: {', '.join(HARDWARE)}, cpu")
    return HARDWARE[key]


@dataclass(frozen=True, slots=True)
class Assumptions:
    """Numbers that no formula gives. docs/scaling.md says where each comes from."""

    mfu: float = 0.4
    """Share of the peak rate that a pass over many tokens reaches, recomputation counted as work."""
    decode_mfu: float = 0.4
    """The same while tokens are drawn, one for each row."""
    bandwidth: float = 0.85
    """Share of the memory's bandwidth that drawing tokens reaches."""
    link: float = 0.7
    """Share of the bandwidth between GPUs that collective operations reach."""
    node_link: float = 50e9
    """Bytes a second that one GPU sends to other machines: a 400 Gb/s adapter for each."""
    layer_launch: float = 1.5e-3
    """Seconds that the host needs to start one layer's kernels for one token of all rows; `local` rollouts."""
    vllm_layer: float = 0.13e-3
    """Seconds by which a token takes longer for each layer than its bytes do; `vllm` rollouts."""
    vllm_cache: float = 16 * GIB
    """Bytes of vLLM's cache on each GPU; at least one longest row."""
    weight_files: float = 0.6e9
    """Bytes a second that weights take to a vLLM server: written, and read there."""
    reserve: float = 0.08
    """Share of a GPU's memory that torch, CUDA and fragmentation take."""

    def changed(self, given: dict[str, float]) -> Assumptions:
        """With other numbers by name. Raises CallwrightError for a name or number that cannot be."""
        known = [field.name for field in fields(self)]
        for name, value in given.items():
            if name not in known:
                near = get_close_matches(name, known, n=1)
                hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}"
                raise CallwrightError(f"--assume {name}: there is no such assumption; {hint}")
            share = name in ("mfu", "decode_mfu", "bandwidth", "link")
            if not (0 < value <= 1 if share else 0 <= value < 1 if name == "reserve" else 0 < value < float("inf")):
                allowed = (
                    "above 0 and at most 1" if share else "at least 0, below 1" if name == "reserve" else "above 0"
                )
                raise CallwrightError(f"--assume {name}={value:g}: it must be {allowed}")
        return replace(self, **given)


ON_A_CPU = {"mfu": 0.75, "decode_mfu": 0.25, "layer_launch": 0.4e-3}
"""What is assumed for a CPU unless the user says otherwise: from benchmarks/plan.py."""
