"""A network at work: one image, files, a whole split, and exported."""
