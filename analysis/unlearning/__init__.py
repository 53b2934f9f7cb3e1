"""Forgetting one skill and keeping others: fitted on probes, chosen on validation, tested once."""
