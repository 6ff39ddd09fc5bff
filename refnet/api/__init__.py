"""The functions that Python programs call to train a network and to load a trained one, and what they return."""
