"""LoRA adapters: read in peft's format, and merged into a model's weights while these are read."""
