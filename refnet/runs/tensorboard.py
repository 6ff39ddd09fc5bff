"""Write the metrics of a run as TensorBoard event files, in addition to ``metrics.jsonl``."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from refnet.errors import ConfigError
from refnet.terminal.spelling import setting

FOLDER = "tensorboard"
NAMES = {
    "loss": "loss/training",
    "validation_loss": "loss/validation",
    "test_loss": "loss/test",
    "lr": "lr",
    **{f"{split}_top{k}_error": f"top{k}_error/{split}" for split in ("validation", "test") for k in (1, 5)},
}


def require() -> None:
    """Raise ``ConfigError`` unless tensorboardX is installed."""
    try:
        import tensorboardX  # noqa: F401, PLC0415 - an extra
    except ImportError as error:
        raise ConfigError(
            f"{setting('tensorboard')} needs tensorboardX; install it with: pip install 'refnet[tensorboard]'"
        ) from error


def follow(run: Path, step: int, stack: ExitStack) -> Callable[[str, dict[str, Any]], None]:
    """Open event files that continue after a step; return a function to call with each line of metrics.

    TensorBoard ignores what an earlier session of the run wrote after that step.
    """
    from tensorboardX import SummaryWriter  # noqa: PLC0415 - an extra

    writer = SummaryWriter(str(run / FOLDER), purge_step=step + 1 if step else None)
    stack.callback(writer.close)

    def write(kind: str, figures: dict[str, Any]) -> None:
        if kind not in {"step", "epoch", "test"}:
            return
        for name, tag in NAMES.items():
            if name in figures and not (kind == "epoch" and name == "lr"):  # every step has it
                writer.add_scalar(tag, figures[name], figures["step"])
        if kind == "step":
            writer.add_scalar("images_per_second", figures["images"] / max(figures["seconds"], 1e-9), figures["step"])

    return write
