"""A server for bundles without torch: the Open Inference Protocol v2, plain images, a page to try it on.

Needs ``pip install 'pangu-cv[serve]'``.
"""
