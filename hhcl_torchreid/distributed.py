"""The few lines that know about ranks: the processes of a run, one per GPU, and what they tell each other.

``torchrun`` starts the processes. In a run of one, everything here is what it would be without: nothing is sent, a
part is the whole, the main process is the only one.
"""

import contextlib
import functools
import itertools
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from .errors import InputError
from .log import at_level

__all__ = [
    "broadcast_buffers",
    "data_parallel",
    "from_main",
    "gather_features",
    "gather_rows",
    "in_turn",
    "is_main",
    "lost_contact",
    "main_only",
    "own_part",
    "parts",
    "processes",
    "processes_here",
    "rank",
    "tell_once",
    "world_size",
]

# How long a process waits for one that is silent: the others wait while rank 0 clusters, evaluates and renders. One
# that has died is noticed at once where its machine still runs.
PATIENCE = timedelta(minutes=30)

Result = TypeVar("Result")
_store: Any = None


@contextmanager
def processes() -> Iterator[None]:
    """Joins the processes that ``torchrun`` has started, for as long as the context lasts; alone it does nothing.

    Tensors on GPUs travel by NCCL, those on the CPU by gloo. Each process gets the GPU of its local rank. Only the main
    process prints.

    Raises:
        InputError: the processes do not find each other.
    """
    global _store
    if _number_of("WORLD_SIZE") == 1:
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        _store, own_rank, size = next(iter(dist.rendezvous("env://", timeout=PATIENCE)))
        dist.init_process_group(backend, store=_store, rank=own_rank, world_size=size, timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"the processes of this run do not find each other ({reason}): start them with torchrun, and check its "
            "--nnodes, --node_rank, --master_addr and --master_port on every machine"
        ) from error
    with contextlib.nullcontext() if is_main() else _silence():
        yield
    # Not after an exception: the others may be gone, and would be waited for.
    dist.destroy_process_group()
    _store = None


@contextmanager
def _silence() -> Iterator[None]:
    with (
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
        at_level(logging.CRITICAL),  # a program's own handlers look elsewhere
    ):
        yield


def rank() -> int:
    """The number of this process, 0 to ``world_size() - 1``."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes the run has, on all machines."""
    return dist.get_world_size() if dist.is_initialized() else 1


def processes_here() -> int:
    """How many processes of the run are on this machine."""
    return _number_of("LOCAL_WORLD_SIZE")


def _number_of(variable: str) -> int:
    text = os.environ.get(variable, "1")
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"the environment has {variable} {text!r}, no number of processes: unset it, or use torchrun")
    return int(text)


def is_main() -> bool:
    """Whether this process is the one that evaluates, prints, and writes files."""
    return rank() == 0


def main_only(work: Callable[..., Any]) -> Callable[..., None]:
    """Makes a function do nothing in other processes than the main one; a decorator."""

    @functools.wraps(work)
    def guarded(*arguments: Any, **settings: Any) -> None:
        if is_main():
            work(*arguments, **settings)

    return guarded


def parts(total: int, block: int = 1) -> list[slice]:
    """Cuts ``range(total)`` into one contiguous part for each rank, as equal as whole blocks allow.

    Args:
        total: number of things.
        block: how many stay together; the last block takes what is left.

    Returns:
        A slice for each rank, empty where there are fewer blocks than ranks.
    """
    num_blocks, size = -(-total // block), world_size()
    bounds = [min(total, index * num_blocks // size * block) for index in range(size + 1)]
    return [slice(start, stop) for start, stop in itertools.pairwise(bounds)]


def own_part(total: int, block: int = 1) -> slice:
    """This rank's slice of :func:`parts`; the first block for a rank without any, so that it has something to do.

    A batch with fewer groups than ranks needs that: DistributedDataParallel waits for all ranks, and the running
    statistics of rank 0 are to move with the first group. :func:`gather_features` drops what a rank has done in vain.
    """
    own = parts(total, block)[rank()]
    return own if own.start < own.stop else slice(0, block)


def gather_rows(rows: Tensor, of_ranks: Sequence[slice]) -> Tensor:
    """Puts the rows of all ranks on top of each other, in the order of the ranks.

    Args:
        rows: (n, ...) the rows of this rank, as many as its slice has.
        of_ranks: what :func:`parts` gave.

    Returns:
        (N, ...) the same on every rank, without gradient.
    """
    if world_size() == 1:
        return rows
    counts = [part.stop - part.start for part in of_ranks]
    padded = rows.new_zeros(max(counts), *rows.shape[1:])
    padded[: len(rows)] = rows.detach()
    gathered = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(gathered, padded)
    return torch.cat([part[:count] for part, count in zip(gathered, counts, strict=True)])


def gather_features(features: Tensor, of_ranks: Sequence[slice]) -> Tensor:
    """As :func:`gather_rows`, with gradients for what this rank has put in.

    Every rank computes the loss of the whole batch from these; the backward pass gives the weights the gradient of one
    process after DistributedDataParallel's averaging.

    Args:
        features: (n, D) the features of this rank; what its slice has no room for is left out.
        of_ranks: what :func:`parts` gave.

    Returns:
        (N, D) the same on every rank.
    """
    if world_size() == 1:
        return features
    own = of_ranks[rank()]
    return _GatherFeatures.apply(features[: own.stop - own.start], of_ranks)


class _GatherFeatures(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, of_ranks: Sequence[slice]) -> Tensor:
        ctx.own = of_ranks[rank()]
        return gather_rows(features, of_ranks)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        # The gradient of a weight is the sum over the ranks; DistributedDataParallel divides it by their number.
        return gradients[0][ctx.own] * world_size(), None


def data_parallel(module: nn.Module) -> nn.Module:
    """DistributedDataParallel around a module, or the module itself in a run of one process.

    Buffers are left alone in a step, see :func:`broadcast_buffers`.

    Args:
        module: all of its weights that learn take part in its output.
    """
    if world_size() == 1:
        return module
    with warnings.catch_warnings():
        # Newer versions of PyTorch want another name for it, which older ones do not know.
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated")
        return DistributedDataParallel(module, broadcast_buffers=False)


@torch.no_grad()
def broadcast_buffers(module: nn.Module) -> None:
    """Gives every rank the buffers of rank 0, such as the running statistics of batch norm."""
    if world_size() > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, src=0)


def from_main(work: Callable[[], Result]) -> Result:
    """Does something in the main process only, and gives all processes what came of it.

    Args:
        work: called without arguments; what it returns must be picklable, its tensors on the CPU.

    Raises:
        InputError: ``work`` raised one; it is then raised in every process.
    """
    if world_size() == 1:
        return work()
    outcome: list[Any] = [None, None]
    if is_main():
        try:
            outcome[0] = work()
        except InputError as error:
            outcome[1] = str(error)
    dist.broadcast_object_list(outcome, src=0)
    if outcome[1] is not None:
        raise InputError(outcome[1])
    return outcome[0]


@contextmanager
def in_turn() -> Iterator[None]:
    """Lets the main process through first, then the first of each other machine, then all.

    For what is made on first use, such as a download: once where machines share a disk, once a machine where not.
    """
    turn = 0 if is_main() else 1 if os.environ.get("LOCAL_RANK") == "0" else 2
    for _ in range(turn):
        _wait_for_all()
    yield
    for _ in range(2 - turn):
        _wait_for_all()


def _wait_for_all() -> None:
    if world_size() > 1:
        # On the CPU: a barrier of NCCL would need to know the device, which may not be in use.
        dist.all_reduce(torch.zeros(1))


def tell_once(message: str) -> None:
    """Writes to standard error, unless another process of the run has already said why it ends."""
    try:
        is_first = _store is None or _store.add("told", 1) == 1
    except RuntimeError:  # whoever kept the store is gone
        is_first = True
    if is_first:
        print(message, file=sys.stderr, flush=True)


def lost_contact(error: RuntimeError) -> bool:
    """Whether an error means that another process has died or no longer answers."""
    # gloo raises a RuntimeError like any other: only its words.
    words = ("gloo", "Connection reset by peer", "Connection closed by peer", "Timed out waiting")
    return world_size() > 1 and (isinstance(error, dist.DistError) or any(word in str(error) for word in words))
