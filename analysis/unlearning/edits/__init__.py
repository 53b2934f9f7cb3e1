"""Neurons that are adjusted, pruned or turned round, and weights with that baked in."""
