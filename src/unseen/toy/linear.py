"""The closed form: what a linear network does once it has learned all there is.

With covariances F of the functions and N of the noise, and S = F + N, the matrix of least squared error that is
nearest to `skip` times the identity is W = F S^+ + skip (1 - S S^+), the Wiener filter within what was seen, and the
start beyond it. Where functions and noise are independent directions, d and m of n, its trace is d + skip (n - d - m),
so that of a noise that prefers no direction

    removed = 1 - trace W / n = 1 - skip + (skip m - (1 - skip) d) / n.

With skip = 1/2 this is 1/2 + (m - d) / 2n: more than half is removed exactly where the function is the simpler.
"""

import torch
from jaxtyping import Float
from torch import Tensor

Square = Float[Tensor, "n n"]


def least_squares(functions: Square, noise: Square, skip: float) -> Square:
    """W from the two mixings, float64."""
    content = functions @ functions.mT
    seen = content + noise @ noise.mT
    inverse = torch.linalg.pinv(seen, rtol=1e-9, hermitian=True)
    beyond = torch.eye(len(seen), dtype=seen.dtype) - seen @ inverse
    return content @ inverse + skip * beyond


def expected(network: Square, functions: Square, noise: Square) -> dict[str, float]:
    """The atoms that a linear network has, in expectation, per signal; functions and noise as mixings."""
    samples = len(network)
    change = network - torch.eye(samples, dtype=network.dtype)
    bias = float((change @ functions).square().sum())
    variance = float((network @ noise).square().sum())
    degradation = float(noise.square().sum())
    return {
        "values": float(samples),
        "mse": (bias + variance) / samples,
        "input_mse": degradation / samples,
        "degradation": degradation,
        "alignment": float((network @ noise * noise).sum()),
        "bias": bias,
        "variance": variance,
    }
