"""The shipped conformance suite, on the backends named with --backend."""

from refnet.testing.suite import (
    test_exact,
    test_guards,
    test_nan_and_infinity,
    test_no_worse_than_numpy,
    test_refuses,
    test_same_bits_again,
    test_views,
    test_within_bound,
)

__all__ = [
    "test_exact",
    "test_guards",
    "test_nan_and_infinity",
    "test_no_worse_than_numpy",
    "test_refuses",
    "test_same_bits_again",
    "test_views",
    "test_within_bound",
]
