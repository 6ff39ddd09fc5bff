"""The conformance suite that checks a backend against the NumPy reference."""
