"""A recipe's `weights=…` → a model that holds them, whatever kind of file it is."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

from torch import Tensor, nn

from ..errors import MvdiffError
from .embedded import embedded_weights, load_into
from .load import assign, load_published
from .read import read_weights
from .rule import fill_by_rule

#: how names of published checkpoints begin
_PUBLISHED = ("model.diffusion_model.", "spatial_volume.", "state_dict.")


def open_model(
    make: Callable[[], nn.Module],
    weights: str,
    recipe: str,
    *,
    betas: Tensor | None = None,
) -> nn.Module:
    """A model made by `make`, with its weights.

    weights: "embedded"; "none", which is refused with where to get them; "rule", numbers by
        rule for tests and benchmarks; or a .safetensors, .ckpt or .pt file, with our names or
        the published ones.
    betas: of the user's noise schedule; a published checkpoint's is compared with it.
    Raises MvdiffError when the weights do not fit. Large models are made without memory of
    their own, so that a load needs little more than the file.
    """
    if weights == "none":
        raise MvdiffError(
            f"recipe '{recipe}' ships without weights: download syncdreamer-pretrain.ckpt, which "
            "the SyncDreamer repository (liuyuan-pal/SyncDreamer) links to, and pass "
            "weights=syncdreamer-pretrain.ckpt"
        )
    if weights == "rule":
        warnings.warn(
            "weights=rule: the weights are NUMBERS MADE BY A RULE, not trained; the pictures mean "
            "nothing, use it for tests and benchmarks only",
            stacklevel=2,
        )
        return fill_by_rule(empty(make))
    if weights == "embedded":
        model = make()
        load_into(model, embedded_weights(recipe))
        return model
    path = Path(weights).expanduser()
    tensors, metadata = read_weights(path)
    if any(name.startswith(_PUBLISHED) for name in tensors):
        model = empty(make)
        try:
            report = load_published(model, tensors, betas=betas)
        except MvdiffError as error:
            raise MvdiffError(f"'{path}': {error}") from error
        for difference in report.differences:
            warnings.warn(f"{difference}: yours are used, expect worse pictures", stacklevel=2)
        return model
    if metadata.get("mvdiff_kind") == "zero123":
        raise MvdiffError(
            f"'{path}' is Zero123, which has no volume and no depth attention: it starts a "
            "training, it cannot generate views with this recipe"
        )
    model = empty(make)
    own = model.state_dict()
    same = own.keys() == tensors.keys() and all(tensors[n].shape == own[n].shape for n in own)
    if same and all(t.is_floating_point() for t in tensors.values()):
        assign(model, {name: tensors[name].to(own[name].dtype) for name in own})
        return model
    model = make()
    load_into(model, path)  # swapped parts, or a sentence on what does not fit
    return model


def empty(make: Callable[[], nn.Module]) -> nn.Module:
    """The model with parameters that have shapes and no memory."""
    from accelerate import init_empty_weights

    with init_empty_weights(include_buffers=False):
        return make()
