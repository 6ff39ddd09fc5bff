"""The trainer: the paper's section 5, from a configuration to a test error."""
