"""Units of measure: of the International System and of US customary measure, with exact factors (NIST Special
Publication 811, appendix B)."""

from __future__ import annotations

from decimal import Decimal

NAMES = {
    "length": """1 m meter meters metre metres | 1000 km kilometer kilometers kilometre kilometres kms
        | 0.01 cm centimeter centimeters centimetre centimetres | 0.001 mm millimeter millimeters millimetre millimetres
        | 1e-9 nm nanometer nanometers | 1609.344 mi mile miles | 0.9144 yd yard yards | 0.3048 ft foot feet
        | 0.0254 inch inches in""",
    "mass": """1 kg kilogram kilograms kilo kilos kgs | 0.001 g gram grams | 1e-6 mg milligram milligrams
        | 1000 t ton tons tonne tonnes | 0.45359237 lb lbs pound pounds | 0.028349523125 oz ounce ounces""",
    "time": """1 s sec secs second seconds | 0.001 ms millisecond milliseconds | 60 min mins minute minutes
        | 3600 h hr hrs hour hours | 86400 day days | 604800 week weeks | 1209600 fortnight fortnights
        | 2592000 month months | 31536000 year years""",
    "months": """1 month months | 3 quarter quarters | 12 year years yr yrs annum | 120 decade decades
        | 1200 century centuries""",
    "volume": """1 l liter liters litre litres | 0.001 ml milliliter milliliters millilitre millilitres
        | 3.785411784 gal gallon gallons""",
    "data": """1 b byte bytes | 1e3 kb kilobyte kilobytes | 1e6 mb megabyte megabytes | 1e9 gb gigabyte gigabytes
        | 1e12 tb terabyte terabytes""",
    "energy": "1 j joule joules | 1000 kj kilojoule kilojoules",
    "frequency": "1 hz hertz | 1e3 khz kilohertz | 1e6 mhz megahertz | 1e9 ghz gigahertz",
    "power": "1 w watt watts | 1000 kw kilowatt kilowatts",
    "pressure": "1 pa pascal pascals | 1000 kpa kilopascal kilopascals | 101325 atm atmosphere atmospheres",
    "charge": "1 coulomb coulombs | 1e-6 microcoulomb microcoulombs",
}
"""Of each dimension its units: the factor to the base unit, then the names. A month of `time` has 30 days."""


def _units() -> dict[str, dict[str, Decimal]]:
    table: dict[str, dict[str, Decimal]] = {}
    for dimension, units in NAMES.items():
        for unit in units.split("|"):
            factor, *names = unit.split()
            for name in names:
                table.setdefault(name, {})[dimension] = Decimal(factor)
    return table


UNITS = _units()
"""Unit's name -> dimension -> factor to the dimension's base unit."""
