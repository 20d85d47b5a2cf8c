"""From image files to augmented training batches."""
