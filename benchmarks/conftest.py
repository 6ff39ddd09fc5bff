"""Options of the benchmarks; ``--backend`` means the same as for the tests."""

pytest_plugins = ["refnet.testing.plugin"]


def pytest_addoption(parser):
    parser.addoption("--batch", type=int, default=16, help="images in a batch (default: 16)")
