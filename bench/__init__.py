"""Benchmarks: ratios of paired measurements in one run on one machine. `python -m bench` runs all of them."""
