"""What the user probably meant by a word that is not known."""

from collections.abc import Iterable
from difflib import get_close_matches

# Names from other trainers that are not spelled like refnet's.
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
    """Return the choice that is most like `word`, or its synonym; None where none is like it."""
    plain = {_plain(choice): choice for choice in choices}
    sought = _plain(word)
    if SYNONYMS.get(sought) in plain:
        return plain[SYNONYMS[sought]]
    close = get_close_matches(sought, plain, n=1)
    return plain[close[0]] if close else None


def did_you_mean(word: object, choices: Iterable[str], otherwise: str = "") -> str:
    """Return the end of a message: ``"; did you mean paper?"``, or `otherwise` where no choice is like `word`."""
    choice = nearest(word, choices)
    if choice is not None:
        return f"; did you mean {choice}?"
    return f"; {otherwise}" if otherwise else ""


def _plain(word: object) -> str:
    return str(word).lower().lstrip("-").replace("-", "_")
