"""How the bundled models are made: their corpus, their recipes, and what they are measured with."""
