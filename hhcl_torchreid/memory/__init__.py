"""What a batch is contrasted with."""

from .hybrid import HybridMemory
from .terms import MEMORY_MODES, Batch, MemoryTerm

__all__ = ["MEMORY_MODES", "Batch", "HybridMemory", "MemoryTerm"]
