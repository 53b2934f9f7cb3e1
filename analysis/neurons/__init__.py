"""Analyses of single neurons: decoding, word search, activations, effects."""
