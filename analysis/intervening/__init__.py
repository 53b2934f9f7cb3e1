"""The one entry to a model's computation: clamps, pruning and observers, attached for one step and undone."""
