"""Experts as use cases: profiling and pruning."""
