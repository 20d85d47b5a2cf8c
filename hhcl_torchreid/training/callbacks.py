"""What a program of one's own hears of a run: wandb, MLflow and their like are one method."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from .. import distributed

__all__ = ["Callback", "tell_callbacks"]

logger = logging.getLogger(__name__)


class Callback(Protocol):
    """Whatever has this method can be given to ``ImageHHCLEngine.run`` and ``runner.run``; it need not inherit."""

    def on_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Hears of an epoch, in the main process, as soon as its line of ``metrics.csv`` is complete.

        That is when the next epoch's labels have judged it, and for the last one when it has been tested and saved. A
        run that goes on from a checkpoint tells the epochs after it, one that it may have told before among them.

        Args:
            epoch: its number; 0 is the model before training.
            metrics: the line, column to number; what was not measured is not there.
        """


@distributed.main_only
def tell_callbacks(callbacks: Sequence[Callback], lines: Sequence[Mapping[str, Any]]) -> None:
    """Gives each callback the last line; what one raises is told, and ends neither the run nor the other callbacks.

    Args:
        callbacks: in their order.
        lines: of ``metrics.csv``, column to number.
    """
    if not lines:
        return
    line = lines[-1]
    for callback in callbacks:
        try:
            callback.on_epoch(line["epoch"], dict(line))
        except Exception as error:  # a callback of anybody's may raise anything
            name, reason = type(callback).__name__, " ".join(str(error).split())[:300]
            logger.warning(
                f"=> The callback {name} failed at epoch {line['epoch']} ({type(error).__name__}: {reason}); training "
                "goes on"
            )
            logger.debug("What the callback raised", exc_info=True)
