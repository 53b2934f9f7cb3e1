"""Verdicts as more than one page shows them."""
