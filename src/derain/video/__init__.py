"""Video: clips in, derained clips out, steady over time."""
