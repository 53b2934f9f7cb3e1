"""What the Explore pages are made of."""
