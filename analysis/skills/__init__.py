"""Skills: files of exercises, their splits, answers, judges and metrics."""
