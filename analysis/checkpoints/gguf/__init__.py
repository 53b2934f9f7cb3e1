"""GGUF files: header, configuration and tokenizer, and tensors dequantised while they are read."""
