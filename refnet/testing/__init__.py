"""The conformance suite that every backend is held to; see :mod:`refnet.testing.suite`."""
