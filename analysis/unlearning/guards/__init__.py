"""Guards that abstain by the keys of a query: boxes, rivals, operating points."""
