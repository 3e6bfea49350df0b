"""Training data: patches rained on live, patches of pairs, labeled patches."""
