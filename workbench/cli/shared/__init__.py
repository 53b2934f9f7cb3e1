"""What commands share: options, output, progress, the session, recipe files."""
