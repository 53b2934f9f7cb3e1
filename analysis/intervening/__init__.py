"""The one door into a model: clamps, pruning and observers, attached for one step and undone."""
