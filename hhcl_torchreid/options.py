"""The parser of every command line: no option is lost because another of its name follows."""

import argparse
from typing import Any

__all__ = ["Parser"]


class Parser(argparse.ArgumentParser):
    """A parser of the standard library's that ends where an option is given twice with different values.

    The last one would count, and nobody would hear of the others. Options that gather their values, such as those of
    ``action="append"``, and switches may be repeated.

    Args:
        *args: of ``argparse.ArgumentParser``.
        **kwargs: likewise.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register("action", None, _Once)
        self.register("action", "store", _Once)


class _Once(argparse.Action):
    """Stores a value, once a command line."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._filled: argparse.Namespace | None = None

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        before = getattr(namespace, self.dest, None)
        if option_string and self._filled is namespace and before != values:
            raise argparse.ArgumentError(self, f"given twice, {_as_words(before)} and {_as_words(values)}: give one")
        self._filled = namespace
        setattr(namespace, self.dest, values)


def _as_words(values: Any) -> str:
    return repr(" ".join(map(str, values)) if isinstance(values, list) else str(values))
