"""A dataset beside what a model makes of it, in FiftyOne or on a page, and what people change taken back."""
