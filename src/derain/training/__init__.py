"""Training: recipes, the Lightning module that runs them, ablations."""
