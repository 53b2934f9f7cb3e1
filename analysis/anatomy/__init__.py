"""Anatomy of a model: found from the shapes of its modules, proven by recomputing it."""
