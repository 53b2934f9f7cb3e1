"""What a skill is: examples, the files they come in, splits, judges, and a model's answers to them."""
