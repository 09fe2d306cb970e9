"""Stage: what the line has taught goes back into the dataset and the model."""
