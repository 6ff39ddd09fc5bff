"""The labelled images that a trained network is tested on: those that it was trained on, or others.

Decisions
---------
The images that a network was trained on are known by their path or their fingerprint. They are opened as for training,
so that the test images are those that were held out. Any other folder of classes is one set of test images, and none
are held out.

Classes are matched by name: a name counts as it is, else without regard to case, ``_`` and ``-``, else if it is the
readable name of a class (:mod:`refnet.data.naming`); always only if it names one class. So an image has the label that
its class has in the network, whatever classes the folder has.
"""

import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from refnet.data import arrays
from refnet.data.dataset import Dataset, RelabelledSplit, Split
from refnet.data.fingerprint import fingerprint
from refnet.data.image_files import refuse_address
from refnet.data.naming import captions
from refnet.data.opening import is_absent, is_prepared, open_for_test, open_showing, read_source
from refnet.data.parallel import Reading
from refnet.data.readers import registry
from refnet.errors import CheckpointError, ConfigError, DataError
from refnet.evaluation.trained import Trained
from refnet.terminal.printable import dimensions, printable
from refnet.terminal.progress import Show
from refnet.terminal.spelling import setting

MAX_NAMED = 10  # classes in a message; more are only counted


def open_labelled(
    trained: Trained,
    show: Show,
    *,
    what: str | None = None,
    reading: Reading = Reading(),  # noqa: B008 - it cannot be changed
) -> Dataset:
    """Open a data set with `open_images`, and label it with `matched`; `show` says what was left out."""
    dataset, note = matched(trained, open_images(trained, show, what=what, reading=reading))
    for line in filter(None, (dataset.warning, note)):
        show.say(line)
    return dataset


def open_images(
    trained: Trained,
    show: Show,
    *,
    what: str | None = None,
    reading: Reading = Reading(),  # noqa: B008 - it cannot be changed
) -> Dataset:
    """Open the images that a user names, or those that the network was trained on, in the size that it takes.

    The data set has its own classes. If the images of the training have changed since, `show` says so.

    Raises
    ------
    ConfigError
        Neither the user nor the checkpoint names the data.
    DataError
        The images cannot be read, or are not on this machine.
    """
    named = what or trained.data
    if named is None:
        raise ConfigError(
            f"{trained.where} does not say what it was trained on; give the images with {setting('data')}"
        )
    if what is None:
        _refuse_absent(trained, named)
    refuse_address(named)
    return _opened(trained, show, named, reading)


def _refuse_absent(trained: Trained, named: str) -> None:
    """Raise ``DataError`` if the images that a network was trained on are not on this machine."""
    if named == arrays.NAME:
        raise DataError(
            f"the images that {printable(trained.where)} was trained on were arrays in a Python program, which no file "
            f"has: give labelled images with {setting('data')}"
        )
    if is_absent(named):
        raise DataError(
            f"{printable(trained.where)} was trained on {printable(named)}, which is not here: give the new place of "
            f"these images, or other labelled images, with {setting('data')}"
        )


def _opened(trained: Trained, show: Show, named: str, reading: Reading) -> Dataset:
    size, _, channels = trained.image_shape
    trained_on = _is_place_of_training(trained, named)
    if trained_on or _may_be_of_training(trained, named, reading):
        dataset = _open_as_trained(trained, show, named, reading)
        same = fingerprint(dataset) == trained.facts.data.fingerprint
        if trained_on and not same:
            show.say(
                f"note: {printable(named)} has changed since {printable(trained.where)} was trained on it, so some "
                "test images may have been training images"
            )
        if trained_on or same:
            return dataset
    shape: dict[str, Any] = {"image_size": size, "channels": channels, "fit": trained.own_fit}
    opened = open_for_test(show, named, reading=reading, **shape)
    return opened or open_showing(show, named, reading=reading, **shape)


def _open_as_trained(trained: Trained, show: Show, named: str, reading: Reading) -> Dataset:
    """Open images as for the training, which may have used a part of them, with what its user has agreed to."""
    config = trained.facts.config
    bad = config.get("bad", reading.bad) if reading.bad == "few" else reading.bad
    reading = replace(reading, bad=bad, follow_links=reading.follow_links or bool(config.get("follow_links")))
    size, _, channels = trained.image_shape
    dataset = open_showing(show, named, image_size=size, channels=channels, reading=reading)
    images = config.get("images")
    return dataset.subset(images) if isinstance(images, int) else dataset


def _is_place_of_training(trained: Trained, named: str) -> bool:
    """Tell whether a user names the data that a network was trained on by their name or place."""
    place = trained.data
    if place is None or named == place:
        return place is not None
    return registry.named(named) is None and os.path.realpath(named) == os.path.realpath(place)


def _may_be_of_training(trained: Trained, named: str, reading: Reading) -> bool:
    """Tell whether a folder has the classes that a network was trained on, with images enough to hold some out."""
    try:
        if is_prepared(named):
            return False
        return read_source(named, follow_links=reading.follow_links).classes == trained.facts.classes
    except DataError:  # for a class with one image, for example
        return False


def matched(trained: Trained, dataset: Dataset, *, keep_unknown: bool = False) -> tuple[Dataset, str]:
    """Return a data set whose classes and labels are those of the network, and a note on what was left out, or "".

    Readable class names come from the data or, failing that, from the checkpoint.

    Parameters
    ----------
    keep_unknown
        Keep the images of classes that the network does not know; these classes are numbered after its own.

    Raises
    ------
    DataError
        None of the classes is the network's.
    CheckpointError
        The images have another shape.
    """
    if trained.image_shape != dataset.image_shape:
        raise CheckpointError(
            f"{trained.where} does not fit {dataset.where}: it takes images of {dimensions(trained.image_shape)}, "
            f"these are {dimensions(dataset.image_shape)}; prepare them in that size"
        )
    known, words = trained.facts.classes, trained.words
    if dataset.classes == known:
        return (replace(dataset, words=words) if dataset.words == dataset.classes else dataset), ""
    labels = labels_by_name(dataset.classes, known, words)
    unknown = [name for name, label in zip(dataset.classes, labels, strict=True) if label is None]
    if len(unknown) == len(labels) and not keep_unknown:
        raise DataError(
            f"{printable(dataset.where)} has none of the classes of {printable(trained.where)}: it has "
            f"{_listed(unknown)}, the network knows {_listed(known)}; name the folders after the network's classes"
        )
    if keep_unknown:
        numbers = iter(range(len(known), len(known) + len(unknown)))
        labels = [next(numbers) if label is None else label for label in labels]
        known, words = (*known, *unknown), (*words, *unknown)
    number = np.array([-1 if label is None else label for label in labels], np.int64)
    relabelled = {
        id(split): RelabelledSplit(split, np.flatnonzero(number[split.labels] >= 0), number)
        for split in (dataset.train, dataset.validation, dataset.test)
    }
    left_out = sum(len(split.whole) - len(split) for split in relabelled.values())
    note = ""
    if left_out:
        images = f"{left_out:,} image{'' if left_out == 1 else 's'}"
        note = f"note: left out {images} of classes that the network does not know: {_listed(unknown)}"
    elif unknown:
        last = f" to {len(known) - 1}" if len(unknown) > 1 else ""
        labelled = f"have the labels {len(known) - len(unknown)}{last}"
        note = f"note: classes that the network does not know {labelled}: {_listed(unknown)}"
    train, validation, test = (relabelled[id(split)] for split in (dataset.train, dataset.validation, dataset.test))
    return replace(dataset, classes=known, words=words, train=train, validation=validation, test=test), note


def labels_by_name(classes: Iterable[str], known: Sequence[str], words: Sequence[str]) -> list[int | None]:
    """Return the network's label of each class, None for one that it does not know.

    `known` are the network's classes, `words` their readable names.
    """
    tables: list[tuple[Callable[[str], str], dict[str, int]]] = [
        (_composed, _unique(map(_composed, known))),
        (_plain, _unique(map(_plain, known))),
        (_plain, _unique(map(_plain, captions(known, words)))),
        (_plain, _unique(map(_plain, words))),
    ]
    matches = ([table.get(spell(name)) for spell, table in tables] for name in classes)
    return [next((label for label in labels if label is not None), None) for labels in matches]


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _plain(name: str) -> str:
    return _composed(name).casefold().replace("_", " ").replace("-", " ").strip()


def _unique(names: Iterable[str]) -> dict[str, int]:
    """Return the index of each name that occurs once."""
    listed = list(names)
    counts = Counter(listed)
    return {name: index for index, name in enumerate(listed) if counts[name] == 1}


def without_images(trained: Trained, split: Split) -> str:
    """Return a note that names the network's classes of which a split has no image; "" if there are none."""
    known = trained.facts.classes
    missing = [known[label] for label in np.setdiff1d(np.arange(len(known)), split.labels)]
    if not missing:
        return ""
    return f"note: no images of {len(missing)} of the network's {len(known)} classes: {_listed(missing)}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMED:,} more" if len(names) > MAX_NAMED else ""
    return ", ".join(map(printable, names[:MAX_NAMED])) + more
