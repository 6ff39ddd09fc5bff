"""Data sets whose images and labels are arrays of a Python program.

Source
------
Images that are not given for validation or test are held out of the training images, in the same way as for an image
folder.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from refnet.data.dataset import Labels, Pixels
from refnet.data.source import ArrayPictures, Pictures, Source, deal
from refnet.errors import DataError
from refnet.terminal.printable import printable

NAME = "<arrays>"  # in a run's configuration, where other runs have a path
WHERE = "memory"
SHARE_OF_TWO, SHARE_OF_ONE = 5, 10  # hold out 1/5 for validation and 1/5 for test, or 1/10 if only one is missing
SHOWN_LABELS = 5


def recognise(data: str, names: frozenset[str]) -> bool:  # noqa: ARG001 - a name is enough
    """Tell whether a configuration says that the images were arrays."""
    return data == NAME


def read(data: str) -> Source:  # noqa: ARG001 - there is nothing to read
    """Raise ``DataError``: arrays are in the memory of the program that trained on them."""
    raise DataError(
        "the images were arrays in a Python program, and no file has them: give them again there, as "
        "data=(images, labels)"
    )


def source(
    data: Sequence[Any],
    *,
    validation: Sequence[Any] | None = None,
    test: Sequence[Any] | None = None,
    classes: Sequence[str] | None = None,
) -> Source:
    """Return the data set of some arrays.

    Parameters
    ----------
    data, validation, test
        A pair (images, labels) each. Images are uint8 (N,H,W), or (N,H,W,C) with C 1 or 3. Labels are N integers, which
        count the classes from 0, or N names of classes.
    classes
        The names of the classes in the order of the labels; without it, their numbers or the sorted names in `data`.

    Raises
    ------
    DataError
        Images, labels or classes of another form; the message names the argument.
    """
    names = _classes(data, classes)
    training = labelled(data, names, "data")
    if len(names) < 2:
        raise DataError(f"data: one class, '{printable(names[0])}'; a net needs at least 2 to tell apart")
    splits: dict[str, Pictures] = {"train": training}
    height, width, channels = training.pixels.shape[1:]
    layout = f"arrays of {height}x{width}x{channels}"
    splits |= {
        argument: labelled(pair, names, argument)
        for argument, pair in (("validation", validation), ("test", test))
        if pair is not None
    }
    missing = [name for name in ("test", "validation") if name not in splits]
    if missing:
        share = SHARE_OF_TWO if len(missing) == 2 else SHARE_OF_ONE
        parts = deal("data", splits["train"], names, held_out=len(missing), share=share)
        splits |= dict(zip(("train", *missing), parts, strict=True))
        part = "a fifth" if len(missing) == 2 else "a tenth"
        layout += f", {part} of each class held out for {f' and {part} for '.join(reversed(missing))}"
    return Source("arrays", WHERE, layout, names, names, splits["train"], splits["validation"], splits["test"])


def labelled(pair: Sequence[Any], classes: tuple[str, ...], argument: str) -> ArrayPictures:
    """Return a checked pair (images, labels): uint8 (N,H,W,C) and int64 (N,).

    Raises ``DataError``, which names `argument`.
    """
    images, labels = _pair(pair, argument)
    pixels = stacked(images, argument)
    numbers = _numbers(labels, classes, argument)
    if len(pixels) != len(numbers):
        raise DataError(
            f"{argument}: {len(pixels):,} images, but {len(numbers):,} labels; give one label for each image"
        )
    return ArrayPictures(numbers, pixels, argument, NAME)


def refuse_ambiguous(pair: Sequence[Any], classes: tuple[str, ...], argument: str) -> None:
    """Raise ``DataError`` for integer labels if classes have other integers as names, such as "10", the third of 12.

    Folders called 0 to 11 are sorted as text: 0, 1, 10, 11, 2 and so on.
    """
    labels = _plain_labels(_pair(pair, argument)[1], argument)
    if labels.dtype.kind == "U" or not all(name.isdecimal() for name in classes):
        return
    other = next((label for label, name in enumerate(classes) if int(name) != label), None)
    if other is not None:
        raise DataError(
            f"{argument}: labels are integers, but the class number {other} is called '{classes[other]}'; give names, "
            "labels.astype(str), or numpy.array(net.classes)[labels] if the labels count the classes from 0"
        )


def stacked(images: Any, argument: str) -> Pixels:
    """Return images as uint8 (N,H,W,C). Raises ``DataError``, which names the argument, for any other form."""
    try:
        pixels = np.asarray(images)
    except ValueError as error:  # arrays of different shapes
        raise DataError(f"{argument}: images differ in shape; resize them to one shape and stack them") from error
    check_bytes(pixels, argument)
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    if pixels.ndim != 4 or pixels.shape[3] not in (1, 3):
        raise DataError(
            f"{argument}: images have shape {pixels.shape}, not (N,H,W), (N,H,W,1) or (N,H,W,3)"
            f"{_remedy_of_shape(pixels.shape)}"
        )
    if 0 in pixels.shape:
        raise DataError(f"{argument}: images have shape {pixels.shape}, so there is no pixel; give at least one image")
    return pixels


def check_bytes(pixels: Any, argument: str) -> None:
    """Raise ``DataError``, with a remedy, unless pixels are uint8."""
    if pixels.dtype == np.uint8:
        return
    kind = pixels.dtype.name
    if pixels.dtype.kind not in "fiub" or not pixels.size:
        raise DataError(f"{argument}: images are {kind}, not uint8; give an array of pixels from 0 to 255")
    low, high = pixels.min().item(), pixels.max().item()
    unit = pixels.dtype.kind in "fb" and low >= 0 and high <= 1
    remedy = "(255 * images).round().astype('uint8')" if unit else "images.astype('uint8')"
    if low >= 0 and high <= 255:
        raise DataError(f"{argument}: images are {kind} from {low} to {high}, not uint8; convert them: {remedy}")
    raise DataError(f"{argument}: images are {kind} from {low} to {high}, not uint8; scale them to pixels 0 to 255")


def _remedy_of_shape(shape: tuple[int, ...]) -> str:
    if len(shape) == 4 and shape[1] in (1, 3):
        return "; move the channels to the end: images.transpose(0, 2, 3, 1)"
    if len(shape) == 4 and shape[3] == 4:
        return "; drop the fourth channel: images[..., :3]"
    return "; a single image needs a first axis: images[None]" if len(shape) == 2 else ""


def _pair(pair: Sequence[Any], argument: str) -> tuple[Any, Any]:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        given = f"{len(pair)} items" if isinstance(pair, tuple | list) else type(pair).__name__
        raise DataError(f"{argument} has {given}; give a pair of two arrays, {argument}=(images, labels)")
    return pair[0], pair[1]


def _classes(data: Sequence[Any], classes: Any) -> tuple[str, ...]:
    """Return the names of the classes, from the training labels if `classes` is None."""
    if classes is not None:
        if isinstance(classes, str) or not isinstance(classes, Iterable):
            kind = "one text" if isinstance(classes, str) else type(classes).__name__
            raise DataError(f"classes={classes!r} is {kind}; give a list of names, one for each class")
        names = tuple(map(str, classes))
        if not names:
            raise DataError("classes is empty; give a list of names, one for each class")
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise DataError(f"classes: {twice!r} is there {names.count(twice)} times; give each class its own name")
        return names
    labels = _plain_labels(_pair(data, "data")[1], "data")
    if labels.dtype.kind == "U":
        return tuple(sorted(set(labels.tolist())))
    if not len(labels):
        return ()
    largest = int(labels.max())
    if largest >= len(labels) and labels.min() >= 0:  # one wrong label could ask for more names than memory holds
        raise DataError(
            f"data: labels count the classes from 0, but the largest of {len(labels):,} is {largest}; number the "
            "classes from 0: numpy.unique(labels, return_inverse=True)[1]"
        )
    return tuple(map(str, range(max(largest + 1, 0))))


def _numbers(labels: Any, classes: tuple[str, ...], argument: str) -> Labels:
    """Return each label as the number of its class: int64 (N,)."""
    array = _plain_labels(labels, argument)
    if array.dtype.kind == "U":
        number = {name: label for label, name in enumerate(classes)}
        unknown = [name for name in array.tolist() if name not in number]
        if unknown:
            raise DataError(
                f"{argument}: the label {unknown[0]!r} is none of the {len(classes)} classes "
                f"({_first_classes(classes)}); correct the label or give classes="
            )
        return np.array([number[name] for name in array.tolist()], np.int64)
    wrong = array[(array < 0) | (array >= len(classes))]
    if wrong.size:
        raise DataError(
            f"{argument}: a label is {wrong[0]}, but {len(classes)} classes have the labels 0 to {len(classes) - 1} "
            f"({wrong.size:,} of {len(array):,} labels are outside); correct the labels or give classes="
        )
    numbers: Labels = array.astype(np.int64)
    return numbers


def _plain_labels(labels: Any, argument: str) -> Any:
    """Return labels as an array (N,) of integers or texts."""
    try:
        array = np.asarray(labels)
    except ValueError as error:
        raise DataError(f"{argument}: labels differ in their shapes; give one number or name for each image") from error
    if array.dtype.kind == "O" and all(isinstance(label, str) for label in array.ravel()):
        array = array.astype(np.str_)
    if array.dtype.kind not in "iuU":
        remedy = "; convert them: labels.astype(int)" if array.dtype.kind in "fb" else ""
        raise DataError(f"{argument}: labels are {array.dtype.name}, not integers or names{remedy}")
    if array.ndim != 1:
        one_hot = array.ndim == 2 and array.shape[1] > 1
        remedy = "labels.argmax(axis=1), if they are one-hot" if one_hot else "labels.ravel()"
        raise DataError(f"{argument}: labels have shape {array.shape}, not (N,); try {remedy}")
    return array


def _first_classes(classes: tuple[str, ...]) -> str:
    shown = ", ".join(map(printable, classes[:SHOWN_LABELS]))
    return f"{shown}, ..." if len(classes) > SHOWN_LABELS else shown
