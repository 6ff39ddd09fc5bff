"""Run folders: what a run saves, and how it is resumed."""
