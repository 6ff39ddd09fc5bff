"""Pictures of a network and its runs: the report page, charts, kernels and plots."""
