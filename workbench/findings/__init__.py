"""Findings: kept with their evidence, carried in and out, and run again."""
