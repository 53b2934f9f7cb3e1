"""Display of jobs, the same on every page."""
