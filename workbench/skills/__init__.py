"""Skills as use cases: the library, drafts, key boxes and where queries lie among them."""
