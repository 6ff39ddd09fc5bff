"""Data sets: reading images from disk, preparing them, and loading them in batches."""
