"""The conformance suite that every backend is held to; see :mod:`refnet.testing.suite`.

From the ground up: ``call`` (one call, printable), ``bounds`` (comparisons), ``strategies`` (draws of geometry),
``cases`` (what is known of each function), ``memory`` (poison and guards), ``agreement`` (one call on one backend),
``gradients`` (central differences), ``suite`` (the tests), ``plugin`` (pytest's options). All but this module and
``loopback`` need hypothesis or pytest, which the extra ``refnet[testing]`` installs.
"""
