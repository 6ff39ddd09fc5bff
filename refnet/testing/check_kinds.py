"""The kinds of checks of one function, and the letters of the lengths that `only` can restrict."""

# The kinds by name, with their labels in the table of a report.
KINDS = {
    "signature": "parameters",
    "integers": "whole numbers",
    "normal": "normal numbers",
    "one_signed": "no negative numbers",
    "special": "with NaN and infinity",
    "views": "strided views",
    "inside": "inside larger arrays",
    "repeated": "same call twice",
    "accuracy": "error against NumPy's",
}

LETTERS = tuple("NCHWKRSPQDF")
