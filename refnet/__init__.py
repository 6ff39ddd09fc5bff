"""refnet: the AlexNet paper as software that one can read, trust and use."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from refnet.testing.check import check

__version__ = "0.1.0"
__all__ = ["__version__", "check"]


def __getattr__(name: str) -> Any:
    """Import what is used, when it is used."""
    if name == "check":
        from refnet.testing.check import check  # noqa: PLC0415

        return check
    raise AttributeError(f"module 'refnet' has no attribute {name!r}")
