"""Suggest what the user probably meant by an unknown word."""

from collections.abc import Iterable
from difflib import get_close_matches

# Names of settings in other trainers, and refnet's names for them.
SYNONYMS = {
    "batch_size": "batch",
    "dataset": "data",
    "gpus": "devices",
    "learning_rate": "lr",
    "model": "net",
    "out": "run_dir",
    "wd": "weight_decay",
}


def nearest(word: object, choices: Iterable[str]) -> str | None:
    """Return the choice that is spelled most like `word` or is its synonym; None if no choice is."""
    plain = {_plain(choice): choice for choice in choices}
    unknown = _plain(word)
    if SYNONYMS.get(unknown) in plain:
        return plain[SYNONYMS[unknown]]
    close = get_close_matches(unknown, plain, n=1)
    return plain[close[0]] if close else None


def did_you_mean(word: object, choices: Iterable[str], otherwise: str = "") -> str:
    """Return the end of a message: ``"; did you mean paper?"``, or `otherwise` if no choice is like `word`."""
    choice = nearest(word, choices)
    if choice is not None:
        return f"; did you mean {choice}?"
    return f"; {otherwise}" if otherwise else ""


def _plain(word: object) -> str:
    return str(word).lower().lstrip("-").replace("-", "_")
