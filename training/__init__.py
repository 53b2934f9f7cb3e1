"""Training of the bundled models: corpus, recipes and evaluation."""
