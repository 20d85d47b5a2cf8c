"""Backbones as embedding networks, and their weights."""
