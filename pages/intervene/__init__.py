"""Intervene: change a model and compare its answers."""
