from __future__ import annotations

import math
import time
from typing import Any

import pytest
from callwright_units.quantities import quantity
from hypothesis import given, settings
from hypothesis import strategies as st
from pint import UnitRegistry

UNITS = ("m", "km", "miles", "kg", "lb", "hours", "min", "km/h", "m^2", "degC", "degF", "GB", "kilometers per hour")
PINT: UnitRegistry[Any] = UnitRegistry()
PIECES = st.sampled_from(["5", "1e9", "-", " ", "m", "km", "/", "*", "^", "9", "**", "per", "(", "°", "%", "not", "in"])


@settings(deadline=None, max_examples=50)
@given(st.floats(1e-6, 1e6), st.sampled_from(UNITS), st.sampled_from(UNITS))
def test_what_pint_converts_is_the_same(amount: float, unit: str, other: str) -> None:
    written = f"{amount:.9f}"
    first = quantity(f"{written} {unit}")
    assert first is not None
    if not PINT.is_compatible_with(unit, other):
        assert first.unit != getattr(quantity(f"1 {other}"), "unit", None)
        return
    converted = PINT.Quantity(float(written), unit).to(other).magnitude
    second = quantity(f"{converted:.12e}".replace("e-0", "e-").replace("e+0", "e+") + other)
    assert second is not None
    assert first.same_as(second, 1e-6)
    assert not first.same_as(quantity(f"{float(written) * 1.5 + 7:.9f} {unit}") or first, 1e-6)


@settings(deadline=None, max_examples=100)
@given(st.text(max_size=40) | st.lists(PIECES, max_size=12).map("".join))
def test_any_text_is_a_quantity_or_none(text: str) -> None:
    found = quantity(text)
    assert found is None or (math.isfinite(found.amount) and found.unit)


@pytest.mark.parametrize("text", ["1 m^9^9^9", "1 m**9**9", "9" * 5000 + " m", "1 " + "m*" * 5000 + "m", "1 m^9" * 20])
def test_nothing_is_calculated_that_takes_long(text: str) -> None:
    before = time.process_time()
    assert quantity(text) is None
    assert time.process_time() - before < 1


@pytest.mark.parametrize("text", ["5", "", "km", "50 %", "five km", "5 km or 6 km", "5 zzyzx", "5 km/"])
def test_what_is_no_quantity(text: str) -> None:
    assert quantity(text) is None
