"""One reader for each form in which people have images on disk."""
