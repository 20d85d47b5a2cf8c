"""From pixels to unit rows."""
