"""The one exception that stands for a mistake of the user, not of the program, and for a machine that is too small."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["TOO_LARGE", "InputError", "explain_out_of_memory", "is_out_of_memory"]

TOO_LARGE = "it asks for more memory than there is; free some, or give another file where this one is damaged"
"""What to say of a file whose reading has run out of memory, which it may be the file's own fault to ask for."""

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")

LONGEST = 1200
"""Characters of a message."""


class InputError(ValueError):
    """Bad input: a file, a setting or data that cannot be used.

    The message is one clear sentence that names the thing and the way out. The command-line tools print it and exit
    with code 2; from Python it is a ``ValueError`` like any other. Its text is one line, never longer than a page.
    """

    def __str__(self) -> str:
        """The message; its middle is left out where it is long, and what names bring along moves no cursor."""
        text = _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), super().__str__())
        return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 3 :]}"


def is_out_of_memory(error: Exception) -> bool:
    """True where ``error`` says that a device, CPU included, or the process's limit, had no memory left."""
    # PyTorch has no exception class of its own for the CPU allocator, FAISS none for cudaMalloc, and NVIDIA's libraries
    # ask for memory of their own: only their words.
    words = (
        *("out of memory", "can't allocate memory", "Cannot allocate memory", "Insufficient memory"),
        *("bad_alloc", "ALLOC_FAILED", "can't start new thread"),
    )
    return isinstance(error, MemoryError | torch.cuda.OutOfMemoryError) or any(word in str(error) for word in words)


@contextmanager
def explain_out_of_memory(
    task: str, advice: str = "free memory on the features' device, or move the features to one that has more"
) -> Iterator[None]:
    """Turns running out of memory into a sentence; a decorator too.

    Args:
        task: what is being done, for the sentence.
        advice: the way out.

    Raises:
        InputError: in place of whatever says that there was no memory left.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise InputError(f"Out of memory in {task}: {advice}") from error
