"""Benchmarks, each comparing alternatives in one run: `python -m bench.NAME`. They are not tests of
correctness.
"""
