"""An open toolkit for industrial vision: a few labels in, a certified model out."""

__version__ = "0.1.0"
