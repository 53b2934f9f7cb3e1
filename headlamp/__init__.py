"""Headlamp: decode a language model's neurons, clamp them, and keep the evidence."""
