"""The paper's claims as experiments, with the rule that decides each: ``refnet reproduce``."""
