"""Tiny networks gain nothing from threads, and threads that wait are a burden on a busy machine."""

import torch

torch.set_num_threads(1)
