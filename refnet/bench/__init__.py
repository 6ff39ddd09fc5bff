"""How fast a network is, layer by layer and as a whole, beside what the machine could do and beside PyTorch.

``timing`` (rounds), ``machine`` (peaks and fingerprint), ``ops`` (each layer, in this process), ``contender`` (one
whole network, in a process of its own), ``step`` (several contenders in turn), ``torch_peer`` (the same network in
PyTorch, imported only where that is there), ``figures`` (all that was measured, and the ratios), ``report`` (the same
to read), ``saved`` (the comparison with an earlier run).
"""
