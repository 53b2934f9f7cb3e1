"""Change a model and see what becomes of its answers."""
