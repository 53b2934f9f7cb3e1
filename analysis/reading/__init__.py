"""What is read where: answer positions, kinds of words with their prompts, and neutral text."""
