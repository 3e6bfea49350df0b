"""Run a model over a paired set: scores, tables, pictures."""
