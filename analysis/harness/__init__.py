"""lm-evaluation-harness on a changed model; needs the package lm_eval, which nothing else requires."""
