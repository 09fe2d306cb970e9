"""The stage that closes the loop: look, mine, ask, learn what is new, fuse, and round again.

It reads a model or a backbone and images nobody has looked at, and writes a ranked list, people's answers, a better
dataset and a better model.
"""
