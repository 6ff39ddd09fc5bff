"""The version of refnet, in its own module so that no module must import ``refnet/__init__.py``, which is above it."""

__version__ = "0.1.0"
