"""Bring the parts of a run's page together; a part for which something is missing says so instead."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from refnet import nets, typed_json
from refnet.data.dataset import Dataset, Pixels, Split
from refnet.data.fingerprint import fingerprint
from refnet.errors import CheckpointError, ConfigError, DataError, NumericError
from refnet.evaluation.seen import Seen, best_and_worst, look, nearest, spread
from refnet.evaluation.trained import Trained, open_data, open_trained
from refnet.network.plan import Plan
from refnet.pictures import page
from refnet.pictures.kernels import first_kernels
from refnet.runs import directory, history, inventory
from refnet.runs.inventory import Run
from refnet.terminal.progress import Show


def report(path: Path, show: Show, backend: str = "auto", dataset: Dataset | None = None) -> str:
    """Return a run as one page of HTML. `dataset` is what it was trained on, where that is open already.

    Raises
    ------
    ConfigError
        It is no run, or its metrics or configuration cannot be read.
    BackendUnavailableError
        The backend cannot run here.
    """
    run = inventory.inspect(path)
    parts = [page.heading(run)]
    went = page.curves_section(history.read(path))
    try:
        trained = open_trained(path, backend)
    except CheckpointError as error:
        parts.append(page.note(f"{error}. What it has learned is left out."))
        plan = _planned(run)
        parts += [page.network_section(plan)] if plan else []
        parts.append(went)
        facts: dict[str, Any] = {}
    else:
        facts = trained.facts.environment
        parts += [*_of_images(trained, show, went, dataset)]
    parts.append(page.table_section("Configuration", run.config))
    if environment := typed_json.read_object(path / directory.ENVIRONMENT) or facts:
        parts.append(page.table_section("Environment", environment))
    return page.document(page.title(run), "".join(parts))


def _of_images(trained: Trained, show: Show, went: str, data: Dataset | None) -> Iterator[str]:
    """Give the sections for which there must be a checkpoint, and those for which there must be its data."""
    try:
        data = data or open_data(trained, show)
    except (DataError, ConfigError, CheckpointError) as error:
        yield page.note(f"{error}. Whatever needs its images is left out.")
    if data and fingerprint(data) != trained.facts.data.fingerprint:
        yield page.note("The data have changed since: what is said of images here is said of those of now.")
    yield page.network_section(trained.plan)
    yield went
    if kernels := first_kernels(trained):
        yield page.kernels_section(kernels)
    if data:
        try:
            yield from _looked_at(trained, data, show)
        except (DataError, NumericError) as error:
            yield page.note(f"{error}. What the network makes of its images is left out.")


def _looked_at(trained: Trained, data: Dataset, show: Show) -> Iterator[str]:
    seen = look(trained, data.test, spread(data.test), show, "looking at test images")
    among = look(trained, data.train, spread(data.train), show, "looking at training images")
    queries = choose(seen, page.QUERIES)
    best, worst = best_and_worst(seen, page.EXAMPLES)
    shown = thumbnails(data.test, [*seen.indices[best], *seen.indices[worst], *queries.indices])
    neighbours = nearest(queries.hidden, among.hidden, page.NEIGHBOURS)
    others = thumbnails(data.train, among.indices[np.unique(neighbours)])
    yield page.confusion_section(seen, data.names)
    yield page.predictions_section(seen, shown, data.captions)
    yield page.neighbours_section(queries, among, shown, others, data.captions)


def choose(seen: Seen, count: int) -> Seen:
    """Pick images of different classes, as far as there are so many: the first of each, then the next."""
    rank = np.array([np.count_nonzero(seen.labels[:place] == label) for place, label in enumerate(seen.labels)])
    chosen = np.lexsort((seen.labels, rank))[:count]
    return Seen(seen.indices[chosen], seen.labels[chosen], seen.p[chosen], seen.hidden[chosen])


def thumbnails(split: Split, indices: Iterable[np.integer]) -> dict[int, Pixels]:
    """Read pictures, small, by their number; those of few grey levels are stretched to all of them."""
    numbers = sorted({int(index) for index in indices})
    if not numbers:
        return {}
    images = split.images(np.array(numbers))
    scale = 255 / max(int(images.max()), 1)
    return {
        n: page.thumbnail((picture * scale).round().astype(np.uint8))
        for n, picture in zip(numbers, images, strict=True)
    }


def _planned(run: Run) -> Plan | None:
    """Plan what a run that has saved nothing would train; None where its configuration does not say."""
    columns = run.config.get("columns")
    try:
        net = nets.get(run.net, run.config.get("init"), run.config.get("variant"))
        return net.plan(columns, exchange=run.config.get("exchange") != "none") if columns in {1, 2} else None
    except ConfigError:
        return None
