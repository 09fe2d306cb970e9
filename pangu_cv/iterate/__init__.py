"""Stage: a model at work and new images in, a better dataset and a better model out."""
