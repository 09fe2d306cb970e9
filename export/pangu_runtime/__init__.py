"""Runs pangu_cv bundles where there is no torch: numpy, onnxruntime and pillow are all it needs."""
