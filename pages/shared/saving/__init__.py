"""A changed model saved as a model of its own, from whatever page has its recipe."""
