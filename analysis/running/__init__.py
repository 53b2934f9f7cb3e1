"""Text in, text out: prompts, batches, generation, perplexity, and keys read on the way."""
