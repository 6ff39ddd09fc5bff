"""The version of refnet, in a module of its own so that no module imports the package above it to learn it."""

__version__ = "0.1.0"
