"""What every test shares: the conformance suite's plugin, with its options and its backend fixtures."""

import os

import pytest
from hypothesis import Phase, given, settings

pytest_plugins = ["refnet.testing.plugin"]

# A process has Triton for GPUs or as an interpreter, so these tests have a session of their own (nox -s tests-triton).
collect_ignore = [] if "TRITON_INTERPRET" in os.environ else ["test_triton.py"]


@pytest.fixture(scope="session")
def falsified():
    """Give a function that runs a check on draws until one fails, and returns what the failure says."""

    def find(check, strategy, draws=100):
        @settings(max_examples=draws, derandomize=True, database=None, deadline=None, phases=[Phase.generate])
        @given(strategy)
        def every_draw_passes(drawn):
            check(drawn)

        with pytest.raises(AssertionError) as caught:
            every_draw_passes()
        return str(caught.value)

    return find
