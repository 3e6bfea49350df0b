"""Training data: patches with live rain, patches of pairs, labeled patches."""
