"""Generators of the demo corpus: one module per kind of text, all driven by a `random.Random`."""
