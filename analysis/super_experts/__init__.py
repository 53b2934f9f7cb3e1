"""Super experts: largest outputs, residuals, attention sinks, and the criterion."""
