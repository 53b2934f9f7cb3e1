"""Sweeps and levers as use cases: questions, jobs, answers, findings."""
