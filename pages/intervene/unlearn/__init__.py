"""The Unlearn page."""
