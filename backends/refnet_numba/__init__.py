"""The Numba CPU backend: the same ops as :mod:`refnet.ops`, compiled."""
