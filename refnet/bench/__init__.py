"""Benchmarks: the speed of layers and whole networks, compared with the machine's peak and with PyTorch."""
