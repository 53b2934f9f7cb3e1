"""Generation of base and changed text, stored, and exported as a script."""
