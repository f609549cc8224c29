"""The toy: one-dimensional functions under noise, to see which of the two a network learns.

A function is a random Fourier series, a noise is a random mixture of fixed patterns; how many numbers it takes to name
one of them is the dial of each. A small network is trained on one family of each, and tested on functions and noises
that it has never seen.
"""

from unseen.toy.config import Functions, Network, Noise, Toy, ToyExperiment, ToyRecipe, load_toy

__all__ = ["Functions", "Network", "Noise", "Toy", "ToyExperiment", "ToyRecipe", "load_toy"]
