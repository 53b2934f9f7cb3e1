"""Shared parts of commands: options, output, progress, session, recipe files."""
