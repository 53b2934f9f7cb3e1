"""Changes to a model as JSON and tensors, and back."""
