"""Neurons as use cases: decode, find, profile, browse, compare, export."""
