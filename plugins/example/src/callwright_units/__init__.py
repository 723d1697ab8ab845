"""Quantities in function calls, for callwright: "5 km" is right where "5000 m" is expected."""
