"""What a backend is, how one is loaded, and the NumPy reference backend."""
