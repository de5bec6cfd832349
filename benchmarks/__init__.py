"""Benchmarks: ratios against the float model, measured in one process."""
