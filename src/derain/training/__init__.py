"""Training: recipes, the Lightning modules that run them, ablations."""
