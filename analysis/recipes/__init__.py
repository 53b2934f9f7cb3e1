"""Recipes: changes to a model as JSON and tensors, written and read."""
