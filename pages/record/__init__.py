"""What was found, and what was computed."""
