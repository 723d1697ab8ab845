"""A text as a quantity, an amount of a unit. Models write them: reading one never raises, and takes bounded time."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pint import UnitRegistry

# What pint gets to see. It calculates what stands in a unit, and would not come back from "m^9^9^9".
_AMOUNT = r"[-+]?\d{1,15}(?:\.\d{1,15})?(?:[eE][-+]?\d{1,2})?"
_UNIT = r"(?:[^\W\d_]|[°%])(?:[^\W\d_]|[_°²³ /*·]|\^[1-9](?!\d|\^)){0,31}"
_QUANTITY = re.compile(rf"\s*({_AMOUNT})\s*({_UNIT})\s*")


@dataclass(frozen=True, slots=True)
class Quantity:
    """An amount of a unit that all units of its kind are converted to."""

    amount: float
    unit: str
    """Such as "meter" and "meter / second". Bits, angles and temperatures have units of their own too."""

    def same_as(self, other: Quantity, tolerance: float) -> bool:
        """Whether they are equal up to a relative `tolerance`."""
        return self.unit == other.unit and math.isclose(self.amount, other.amount, rel_tol=tolerance)


@cache
def _registry() -> UnitRegistry[Any]:
    from pint import UnitRegistry  # here, so that `callwright plugins` does not wait for it

    return UnitRegistry()


@lru_cache(maxsize=4096)
def quantity(text: str) -> Quantity | None:
    """`text` as a quantity, "5 km" or "20 °C"; None where it is none, and for a bare number."""
    found = _QUANTITY.fullmatch(text) if len(text) <= 80 else None
    if found is None:
        return None
    units = _registry()
    try:
        value = units.Quantity(float(found[1]), units.parse_units(found[2].strip())).to_root_units()
    except Exception:  # an unknown unit, or words: pint raises more kinds of errors than it has names for
        return None
    unit = str(value.units)
    return (
        Quantity(float(value.magnitude), unit) if unit != "dimensionless" and math.isfinite(value.magnitude) else None
    )
