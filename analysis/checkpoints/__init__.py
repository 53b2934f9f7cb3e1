"""Checkpoints: weights on disk or at the Hub, their headers, and how they are read."""
