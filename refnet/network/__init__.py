"""A network as data, and its forward and backward passes."""
