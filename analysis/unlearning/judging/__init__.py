"""Verdicts on methods: their rows, their worst form, and what they say."""
