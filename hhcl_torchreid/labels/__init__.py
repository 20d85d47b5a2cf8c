"""From features to pseudo labels, once per epoch."""
