"""The Triton GPU backend: the same ops as :mod:`refnet.ops`, as GPU kernels."""
