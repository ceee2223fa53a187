"""Activation checkpointing: the same gradients with less memory."""

from __future__ import annotations

import pytest
import torch
from helpers.small_syncdreamer import small_model
from helpers.tiny_recipe import photos, randomize

from mvdiff.denoiser.multiview_denoiser import MultiViewDenoiser
from mvdiff.training.param_groups import make_param_groups


@pytest.fixture(scope="module")
def model() -> MultiViewDenoiser:
    torch.manual_seed(0)
    return randomize(small_model()).train()


def step(model: MultiViewDenoiser, recompute: bool) -> tuple[dict[str, torch.Tensor], int]:
    """Gradients of a step, and the bytes autograd kept for its backward pass."""
    for module in model.modules():
        if hasattr(module, "checkpointing"):
            module.checkpointing = recompute
    model.zero_grad(set_to_none=True)
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    condition = model.condition(photos(2, 64), torch.tensor([10.0, 30.0]))
    noisy = torch.randn(2, 16, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        targets = torch.tensor([[3], [9]])
        out = model(noisy, torch.tensor([700.0, 200.0]), condition, target_views=targets)
    out.square().mean().backward()
    grads = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return grads, sum(size for place, size in kept.items() if place not in parameters)


@pytest.mark.parametrize("groups", [["unet.slots.", "volume.", "time."], [""]])
def test_the_same_gradients_from_less_memory(model: MultiViewDenoiser, groups: list[str]) -> None:
    make_param_groups(model, [{"match": groups}], weight_decay=0.0)
    plain, much = step(model, recompute=False)
    again, little = step(model, recompute=True)
    assert set(again) == set(plain)
    assert any(name.startswith("volume.net") for name in plain)
    for name, gradient in plain.items():
        scale = max(1.0, float(gradient.abs().max()))
        torch.testing.assert_close(again[name], gradient, rtol=0, atol=1e-6 * scale)
    assert little < 0.7 * much


def test_nothing_is_computed_again_without_gradients(model: MultiViewDenoiser) -> None:
    make_param_groups(model, [{"match": "volume."}], weight_decay=0.0)
    step(model, recompute=True)
    calls = []
    handle = model.unet.middle[0].register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        condition = model.condition(photos(1, 64), torch.tensor([10.0]))
        model(torch.randn(1, 16, 4, 8, 8), torch.tensor([700.0]), condition, target_views=[0])
    handle.remove()
    assert len(calls) == 1


def test_nothing_is_kept_of_the_frozen_way_down(model: MultiViewDenoiser) -> None:
    """Gradients flow through the frozen decoder to the slots, never into the encoder."""
    make_param_groups(model, [{"match": ["unet.slots.", "volume.", "time."]}], weight_decay=0.0)
    seen = {}

    def look(name: str):
        return lambda module, args, out: seen.update({name: out.requires_grad})

    places = {"down": model.unet.down[-1][0], "middle": model.unet.middle[-1]}
    handles = [m.register_forward_hook(look(name)) for name, m in places.items()]
    handles.append(model.unet.up[-1][0].register_forward_hook(look("up")))
    step(model, recompute=False)
    for handle in handles:
        handle.remove()
    assert seen == {"down": False, "middle": False, "up": True}
