"""Text with and without a recipe of changes, remembered, and exported as a script."""
