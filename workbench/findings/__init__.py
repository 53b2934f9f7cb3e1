"""Findings: kept with their evidence, exported, imported, and run again."""
