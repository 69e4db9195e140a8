"""Settings of the whole suite."""

import matplotlib
import torch

matplotlib.use("Agg")
torch.set_num_threads(1)  # the networks here are tiny: threads would wait for each other longer than they compute
