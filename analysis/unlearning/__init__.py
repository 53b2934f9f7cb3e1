"""Unlearning of one skill: fitted on probes, chosen on validation, tested once."""
