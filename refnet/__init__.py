"""refnet: the AlexNet paper as software that one can read, trust and use."""

__version__ = "0.1.0"
