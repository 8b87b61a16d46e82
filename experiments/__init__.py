"""Experiments: one module a table or figure; each writes its records under experiments/results/."""
