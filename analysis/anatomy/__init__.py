"""What a model is made of, found from the shapes of its modules and proven by recomputing it."""
