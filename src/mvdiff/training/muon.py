"""Muon: momentum made orthogonal for weight matrices and kernels, AdamW for the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..utils.precision import has_native_bfloat16

#: Of the quintic iteration that drives singular values towards 1 (Jordan et al. 2024, "Muon").
QUINTIC = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):
    """One optimizer for a whole network (Jordan et al. 2024; sizes of steps: arXiv 2502.16982).

    torch.optim.Muon takes matrices alone; most weights of a UNet are convolution kernels, which
    are matrices of (outputs, inputs · taps) here. Groups with `orthogonal=True` hold such
    weights; the others get AdamW. Orthogonal steps are scaled to the size of AdamW's, so that
    one learning rate serves both; it bears larger ones than AdamW does.

    params: groups as torch takes them, each with `orthogonal` (default False).
    lr, weight_decay (decoupled): as in AdamW. betas: of AdamW. momentum: of the orthogonal steps.
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        *,
        lr: float,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.99),
        momentum: float = 0.95,
        eps: float = 1e-8,
    ) -> None:
        defaults = {"lr": lr, "weight_decay": weight_decay, "betas": betas, "eps": eps}
        super().__init__(params, {**defaults, "momentum": momentum, "orthogonal": False})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            update = self._orthogonal if group["orthogonal"] else self._adam
            for p in group["params"]:
                if p.grad is not None:
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    update(p, self.state[p], group)
        return loss

    def _orthogonal(self, p: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        if not state:
            state["momentum"] = torch.zeros_like(p)
        state["momentum"].lerp_(p.grad, 1 - group["momentum"])
        # Nesterov: the gradient once more, ahead of the average
        ahead = p.grad.lerp(state["momentum"], group["momentum"]).flatten(1)
        # a random orthogonal matrix has entries of size 1/sqrt(longer side); AdamW's are ~0.2
        step = orthogonal(ahead) * (0.2 * max(ahead.shape) ** 0.5)
        p.add_(step.view_as(p), alpha=-group["lr"])

    def _adam(self, p: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        first, second = group["betas"]
        if not state:
            state.update(step=0, mean=torch.zeros_like(p), square=torch.zeros_like(p))
        state["step"] += 1
        state["mean"].lerp_(p.grad, 1 - first)
        state["square"].mul_(second).addcmul_(p.grad, p.grad, value=1 - second)
        mean = state["mean"] / (1 - first ** state["step"])
        root = (state["square"] / (1 - second ** state["step"])).sqrt_().add_(group["eps"])
        p.addcdiv_(mean, root, value=-group["lr"])


def orthogonal(matrix: Float[Tensor, "row column"], steps: int = 5) -> Float[Tensor, "row column"]:
    """About U Vᵀ of the matrix' singular value decomposition, by Newton-Schulz iterations.

    Singular values end near 1 (within about 0.3), which is all the optimizer needs; bfloat16 is
    exact enough for that, and used where it is native. Rows or columns of a rank-deficient matrix
    stay in its span.
    """
    a, b, c = QUINTIC
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    dtype = torch.bfloat16 if has_native_bfloat16(matrix.device) else torch.float32
    x = (x / (x.norm() + 1e-7)).to(dtype)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if tall else x).to(matrix.dtype)


def muon_groups(groups: Iterable[dict[str, Any]], least: int = 16) -> list[dict[str, Any]]:
    """Split groups into weights that get orthogonal steps and those that get AdamW.

    groups: as torch takes them. least: matrices with a shorter side than this, biases and norms
        stay with AdamW; so do first and last layers with few channels in or out.
    """
    split = []
    for group in groups:
        for is_matrix in (True, False):
            chosen = [p for p in group["params"] if _is_matrix(p, least) is is_matrix]
            if chosen:
                split.append({**group, "params": chosen, "orthogonal": is_matrix})
    return split


def _is_matrix(p: Tensor, least: int) -> bool:
    return p.ndim >= 2 and min(p.shape[0], p[0].numel()) >= least
