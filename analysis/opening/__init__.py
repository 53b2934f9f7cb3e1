"""A name becomes a loaded model: its reference, its vocabulary, its lease, and whether it fits."""
