"""`callwright eval --suite NAME`: a benchmark, answered, judged and counted in its own terms. See `contract.py`."""
