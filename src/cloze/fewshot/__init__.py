"""Evaluation without training: a task as a text with something missing, and what a model holds to be the likeliest completion."""
