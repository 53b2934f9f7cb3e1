"""Running a model: prompts, batches, generation, perplexity, and keys read on the way."""
