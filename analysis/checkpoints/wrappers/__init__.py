"""Multimodal models opened as the text model within them."""
