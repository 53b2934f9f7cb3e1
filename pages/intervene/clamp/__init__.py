"""The Clamp page."""
