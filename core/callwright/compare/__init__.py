"""`callwright compare`: several recipes with the same seeds, data order and budget, and what came of them.

`arms.py` finds out what is compared, `runner.py` runs what is missing, each run in a process of its own, `readings.py`
reads run folders, `statistics.py` computes the differences, and `figures.py`, `tables.py` and `report.py` show them.
None of them imports torch.
"""
