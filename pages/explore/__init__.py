"""Explore: what the model is and what its neurons decode to."""
