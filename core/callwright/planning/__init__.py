"""What a recipe needs on a machine: memory by part, and the time of a step by part. No torch, no model, no GPU.

`shapes` knows models, `hardware` GPUs, `setting` a run on a machine; `memory` and `timing` hold the formulas, each with
its source; `plan` puts them together and looks for what makes a run fit. docs/scaling.md says it all in plain words.
"""

from callwright.planning.hardware import HARDWARE, Assumptions, Hardware
from callwright.planning.plan import Change, Plan, make_plan, with_sharding
from callwright.planning.setting import Setting, setting_of
from callwright.planning.shapes import SHAPES, ModelShape, shape_of

__all__ = [
    "HARDWARE",
    "SHAPES",
    "Assumptions",
    "Change",
    "Hardware",
    "ModelShape",
    "Plan",
    "Setting",
    "make_plan",
    "setting_of",
    "shape_of",
    "with_sharding",
]
