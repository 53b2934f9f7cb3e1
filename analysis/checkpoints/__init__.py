"""Weights as bytes: where they lie, here or at the Hub, what they say, and how they are read."""
