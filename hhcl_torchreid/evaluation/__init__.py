"""How good a model is: by labelled test images, and by its own clusters where there are none."""
