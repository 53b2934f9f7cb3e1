"""Experts as use cases: profile them, prune them and see."""
