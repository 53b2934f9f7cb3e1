"""Opening of models: reference, vocabulary, lease, and memory check."""
