"""Data sets: read in whatever form people have them, prepared once, and delivered to the trainer in batches."""
