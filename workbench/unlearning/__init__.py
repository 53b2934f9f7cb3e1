"""Unlearning as a use case: questions, checks, jobs, exports and findings."""
