"""What the Clamp page is made of."""
