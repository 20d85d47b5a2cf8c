"""What a run needs to go on after its last epoch as if nothing had ended it."""

import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.optim.lr_scheduler import SequentialLR

from .. import distributed
from ..checkpoint import load_checkpoint, random_states, restore_random_states
from ..errors import InputError
from ..files import visible
from ..labels import Labeler
from .form import check_form, check_optimizer_state
from .history import METRIC_COLUMNS, History
from .teacher import Teacher

__all__ = ["TrainingState"]

NEEDED = ("state_dict", "epoch", "optimizer", "scheduler", "rows", "labels", "best", "results_before", "random")

OF_THE_SCHEDULE = ("step_size", "gamma", "milestones", "T_max", "eta_min")
BY_PYTORCH = ("params", "foreach", "fused", "capturable", "decoupled_weight_decay")
"""What an optimiser's groups hold beside what it was asked for."""


class TrainingState:
    """Everything of a run that changes, gathered for a checkpoint and put back from one.

    Args:
        model (nn.Module): the network that learns.
        teacher (Teacher, optional): the average of its weights, which then is what a checkpoint is of.
        optimizer (Optimizer): of its weights.
        scheduler (LRScheduler, optional): of the learning rate.
        scaler (GradScaler): of the loss.
        labeler (Labeler): what it remembers of earlier epochs.
        history (History): the lines of ``metrics.csv``.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        teacher: Teacher | None,
        optimizer: torch.optim.Optimizer,
        scheduler: Any,
        scaler: torch.amp.GradScaler,
        labeler: Labeler,
        history: History,
    ) -> None:
        self.model = model
        self.teacher = teacher
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.scaler = scaler
        self.labeler = labeler
        self.history = history

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors; readable by ``torchreid.utils.resume_from_checkpoint`` too."""
        return {
            **self._network_dicts(),
            "epoch": self.history.last["epoch"],
            "rank1": self.history.last.get("rank1", 0.0),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict() if self.scheduler is not None else None,
            "scaler": self.scaler.state_dict(),
            "kinds": self._kinds(),
            "best": self.history.best,
            "results_before": self.history.results_before,
            "rows": self.history.lines,
            "labeler": self.labeler.state_dict(),
            "random": random_states(),
        }

    def _network_dicts(self) -> dict[str, Any]:
        if self.teacher is None:
            return {"state_dict": self.model.state_dict()}
        student = {"state_dict": self.model.state_dict(), "steps": self.teacher.steps}
        return {"state_dict": self.teacher.network.state_dict(), "student": student}

    def _kinds(self) -> dict[str, str]:
        """What the states of optimiser and scheduler are of: others would take some of them without a word."""
        amsgrad = any(group.get("amsgrad") for group in self.optimizer.param_groups)
        warms_up = isinstance(self.scheduler, SequentialLR)
        schedule = self.scheduler._schedulers[-1] if warms_up else self.scheduler
        return {
            "train.optim": type(self.optimizer).__name__ + (" with amsgrad" if amsgrad else ""),
            "train.lr_scheduler": type(schedule).__name__,
            "train.warmup_epochs": "a warm-up" if warms_up else "no warm-up",
        }

    def load(self, path: str | Path) -> dict[str, Any]:
        """Puts everything back as a checkpoint has it; on a refusal nothing but weights may have changed.

        Args:
            path: a ``model-last.pth.tar`` or ``model-best.pth.tar``.

        Returns:
            The checkpoint.

        Raises:
            InputError: no such file, no checkpoint, or one of another model, optimiser or program.
        """
        checkpoint = distributed.from_main(lambda: load_checkpoint(path))
        missing = [name for name in NEEDED if name not in checkpoint]
        if missing:
            raise InputError(
                f"{path} holds no run to go on with ({', '.join(missing)} missing): start from its weights with "
                "model.load_weights instead"
            )
        with _explaining(path):
            self._check_form(checkpoint)
        self._check_kinds(path, checkpoint.get("kinds", {}))
        if (self.teacher is None) != ("student" not in checkpoint):
            had = "with" if "student" in checkpoint else "without"
            raise InputError(
                f"{path} was trained {had} a teacher: set hhcl.teacher to what it was trained with, or start from its "
                "weights with model.load_weights"
            )
        with _explaining(path):
            self._check_hyperparameters(path, checkpoint)
        try:
            check_optimizer_state(self.optimizer, checkpoint["optimizer"])
            self._load_networks(checkpoint)
            self.optimizer.load_state_dict(checkpoint["optimizer"])
        except (RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
            first = str(error).splitlines()[-1].strip()
            raise InputError(
                f"{path} is a checkpoint of another model or optimiser than the configured one ({first}): set the "
                "model.*, train.optim and train.staged_lr that it was trained with"
            ) from None
        with _explaining(path):
            self._load_rest(checkpoint)
        return checkpoint

    def _check_form(self, checkpoint: Mapping[str, Any]) -> None:
        check_form("epoch", 0, checkpoint["epoch"])
        check_form("best", 0.0, 0 if checkpoint["best"] == -math.inf else checkpoint["best"])
        check_form("kinds", self._kinds(), checkpoint.get("kinds", {}))
        check_form("results_before", {}, checkpoint["results_before"])
        for results in checkpoint["results_before"].values():
            check_form("results_before", dict.fromkeys(results, 0.0), results)
            results["mAP"], results["Rank-1"]
        for line in checkpoint["rows"]:
            check_form("rows", dict.fromkeys(METRIC_COLUMNS, 0.0), line)
        if checkpoint["rows"][-1]["epoch"] != checkpoint["epoch"]:
            raise ValueError(f"epoch {checkpoint['epoch']} does not end the rows")
        if checkpoint["labels"] is not None:
            labels = checkpoint["labels"]
            check_form("labels", torch.zeros(len(labels), dtype=torch.int64), labels)
        if self.scheduler is not None and checkpoint["scheduler"] is not None:
            check_form("scheduler", self.scheduler.state_dict(), checkpoint["scheduler"])
        if checkpoint.get("scaler"):
            check_form("scaler", {**self.scaler.state_dict(), "scale": 1.0}, checkpoint["scaler"])
        check_form("random", random_states(), {**checkpoint["random"], "cuda": random_states()["cuda"]})

    def _load_networks(self, checkpoint: Mapping[str, Any]) -> None:
        if self.teacher is None:
            self.model.load_state_dict(checkpoint["state_dict"])
            return
        self.teacher.network.load_state_dict(checkpoint["state_dict"])
        self.teacher.steps = int(checkpoint["student"]["steps"])
        self.model.load_state_dict(checkpoint["student"]["state_dict"])

    def _check_kinds(self, path: str | Path, kinds: Mapping[str, str]) -> None:
        for key, own in self._kinds().items():
            if kinds.get(key, own) != own:
                raise InputError(
                    f"{path} was trained with {kinds[key]}, not {own}: set {key} to what it was trained with, or start "
                    "from its weights with model.load_weights"
                )

    def _check_hyperparameters(self, path: str | Path, checkpoint: Mapping[str, Any]) -> None:
        """What the states of optimiser and scheduler would put in place of what the new ones were asked for."""
        changed = []
        groups = checkpoint["optimizer"].get("param_groups") if isinstance(checkpoint["optimizer"], Mapping) else None
        for own, stored in zip(self.optimizer.param_groups, groups if isinstance(groups, list) else (), strict=False):
            if isinstance(stored, Mapping):
                moving = {"lr"} if "initial_lr" in own else set()
                changed += _changes(own, stored, own.keys() - {*BY_PYTORCH, *moving})
        if self.scheduler is not None and checkpoint["scheduler"] is not None:
            changed += _changes(self.scheduler.state_dict(), checkpoint["scheduler"], OF_THE_SCHEDULE)
        if changed:
            raise InputError(
                f"{path} was trained with {', '.join(dict.fromkeys(changed))}: build optimiser and scheduler as they "
                "were, or start from its weights with model.load_weights"
            )

    def _load_rest(self, checkpoint: Mapping[str, Any]) -> None:
        if self.scheduler is not None and checkpoint["scheduler"] is not None:
            self.scheduler.load_state_dict(checkpoint["scheduler"])
        if checkpoint.get("scaler"):
            self.scaler.load_state_dict(checkpoint["scaler"])
        self.history.lines = [dict(line) for line in checkpoint["rows"]]
        self.history.best = float(checkpoint["best"])
        self.history.results_before = dict(checkpoint["results_before"])
        # Checkpoints of version 0.1.0 kept the labeler's only memory beside the rest.
        self.labeler.load_state_dict(
            checkpoint.get("labeler", {"independence_limit": checkpoint.get("independence_limit")})
        )
        restore_random_states(checkpoint["random"])


def _changes(own: Mapping[str, Any], stored: Mapping[str, Any], keys: Iterable[str]) -> list[str]:
    both = [key for key in sorted(keys) if key in own and key in stored]
    return [
        f"{key.removeprefix('initial_')} {_plain(stored[key])}, not {_plain(own[key])}"
        for key in both
        if _plain(stored[key]) != _plain(own[key])
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return sorted(value)
    return list(value) if isinstance(value, (list, tuple)) else value


@contextmanager
def _explaining(path: str | Path) -> Iterator[None]:
    """Turns what a file that was changed by hand makes of reading it into a sentence: it may hold anything."""
    try:
        yield
    except InputError:
        raise
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError) as error:
        reason = textwrap.shorten(visible(str(error)), width=200, placeholder=" ...")
        raise InputError(
            f"{path} holds a run in a form that cannot be gone on with ({type(error).__name__}: {reason}): start "
            "from its weights with model.load_weights instead"
        ) from error
