"""From a word to a measured effect: sweeps of values, and the neurons that make a model say a word."""
