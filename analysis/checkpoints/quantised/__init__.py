"""Quantised safetensors: which tensors belong to one weight, and its numbers dequantised while it is read."""
