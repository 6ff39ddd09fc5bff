"""The report of a run: one page of HTML. A part that cannot be made is replaced by a note that says why."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from refnet import typed_json
from refnet.data.dataset import Dataset
from refnet.data.fingerprint import fingerprint
from refnet.data.parallel import Reading
from refnet.errors import CheckpointError, ConfigError, DataError, NumericError
from refnet.evaluation.labelled import open_labelled
from refnet.evaluation.responses import evenly_spaced, respond
from refnet.evaluation.trained import Trained, open_trained
from refnet.machine.compiling import noted
from refnet.nets import NetSpec
from refnet.network.plan import Plan
from refnet.pictures import neighbours, page
from refnet.pictures.kernels import first_kernels
from refnet.pictures.predictions import predictions
from refnet.runs import directory, history, inventory
from refnet.runs.checkpoint import plan_of, spec_in
from refnet.runs.inventory import RunSummary
from refnet.terminal.progress import Show

EXAMPLES = 6  # of the best and of the worst predictions


def report(
    path: Path,
    show: Show,
    backend: str = "auto",
    *,
    dataset: Dataset | None = None,
    data: str | None = None,
    reading: Reading = Reading(),  # noqa: B008 - it cannot be changed
) -> str:
    """Return the report of a run as one page of HTML. If images cannot be read, the page and `show` say so.

    Parameters
    ----------
    dataset
        What the run was trained on, where it is open already.
    data
        The new place of what it was trained on, or other labelled images.
    reading
        How images are read.

    Raises
    ------
    ConfigError
        It is not a run folder, or its metrics or configuration cannot be read.
    BackendUnavailableError
        The backend cannot run here.
    """
    run = inventory.inspect(path)
    parts = [page.heading(run)]
    curves = page.curves_section(history.read(path))
    try:
        trained = open_trained(path, backend)
    except CheckpointError as error:
        parts.append(page.note(f"{show.spell(error.message)}. The parts that need a checkpoint are left out."))
        plan = _planned(run)
        parts += [page.network_section(plan)] if plan else []
        parts.append(curves)
        facts: dict[str, Any] = {}
    else:
        facts = trained.facts.environment
        with noted(show, trained.backend):
            parts += [*_of_network(trained, show, curves, dataset, data, reading)]
    parts.append(page.table_section("Configuration", run.config))
    if environment := typed_json.read_object(path / directory.ENVIRONMENT) or facts:
        parts.append(page.table_section("Environment", environment))
    return page.document(page.title(run), "".join(parts))


def _of_network(
    trained: Trained, show: Show, curves: str, opened: Dataset | None, place: str | None, reading: Reading
) -> Iterator[str]:
    """Yield the sections that need a checkpoint, and those that also need its data."""
    data = opened
    try:
        data = data or open_labelled(trained, show, what=place, reading=reading)
    except (DataError, ConfigError, CheckpointError) as error:
        show.say(f"note: {error.message}; the parts that need images are left out")
        yield page.note(f"{show.spell(error.message)}. The parts that need images are left out.")
    if data and fingerprint(data) != trained.facts.data.fingerprint:
        yield page.note(
            "The images below are not those of the training, or have changed since."
            if place
            else "The data have changed since the training. The images below are those of today."
        )
    yield page.network_section(trained.plan)
    yield curves
    if kernels := first_kernels(trained):
        yield page.kernels_section(kernels)
    if data:
        try:
            yield from _of_images(trained, data, show)
        except (DataError, NumericError) as error:
            yield page.note(f"{show.spell(error.message)}. The predictions are left out.")


def _of_images(trained: Trained, data: Dataset, show: Show) -> Iterator[str]:
    """Yield the sections that show what the network computes for images."""
    tested = respond(trained, data.test, evenly_spaced(data.test), show, "reading test images")
    trained_on = respond(trained, data.train, evenly_spaced(data.train), show, "reading training images")
    yield page.confusion_section(tested, data.names)
    yield page.predictions_section(predictions(tested, data, EXAMPLES))
    yield page.neighbours_section(neighbours.rows(tested, trained_on, data))


def _planned(run: RunSummary) -> Plan | None:
    """Return the plan of a run that has no checkpoint; None if its configuration does not say."""
    try:
        return plan_of(typed_json.check(NetSpec, spec_in(run.config | {"net": run.net})))
    except ValueError:  # a ConfigError is one, too
        return None
