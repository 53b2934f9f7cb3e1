"""Guards that abstain depending on a query's keys: boxes, rivals, operating points."""
