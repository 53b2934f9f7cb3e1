"""Skills: files of examples, splits, answers, judges and metrics."""
