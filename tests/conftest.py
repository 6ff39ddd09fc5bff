"""What every test shares: the conformance suite's plugin, with its options and its backend fixtures."""

import pytest
from hypothesis import Phase, given, settings

pytest_plugins = ["refnet.testing.plugin"]


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
