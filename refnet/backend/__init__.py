"""What a backend is, how one is loaded, and the NumPy reference backend."""

from refnet.backend.interface import Array, Backend
from refnet.backend.loading import available, installed, load

__all__ = ["Array", "Backend", "available", "installed", "load"]
