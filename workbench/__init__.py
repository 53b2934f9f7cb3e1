"""Use cases: each joins one analysis to the store. Pages and the CLI call only these."""
