"""Generators of the demo corpus: one small module per kind of text, all driven by a `random.Random`."""
