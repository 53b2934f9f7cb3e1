"""Changed models saved as models of their own."""
