"""Skills as use cases: the library, drafts, key boxes and queries in them."""
