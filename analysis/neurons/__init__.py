"""What single neurons say and do: decoding, word search, activations, effects."""
