"""Progress and safe text on a terminal, and the signals that stop a run."""
