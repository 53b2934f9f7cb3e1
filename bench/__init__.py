"""Measurements, side by side in one run each: `python -m bench.NAME`. None is a test of correctness."""
