"""First-party suites: benchmarks for `callwright eval --suite`."""
