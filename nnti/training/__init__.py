"""From an experiment to a trained network and its run folder."""
