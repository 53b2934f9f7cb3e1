"""lm-evaluation-harness on a model under changes; needs the package lm_eval, which the rest does without."""
