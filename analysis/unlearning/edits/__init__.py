"""Neurons that are adjusted, pruned or reversed, and weights with that baked in."""
