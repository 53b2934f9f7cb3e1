"""Super experts: what experts write, the residual they leave, sinks, and the criterion."""
