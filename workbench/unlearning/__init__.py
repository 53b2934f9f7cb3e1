"""Unlearning as a use case: asked, checked, worked out, exported, kept as evidence."""
