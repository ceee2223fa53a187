"""A recipe's `weights=…` → a model that holds them, whatever kind of file it is."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import MvdiffError, WeightsError
from ..utils.mmap import cast_mapped
from .bundled import bundled_path, load_file_into, load_tensors
from .clip import clip_weights, is_clip
from .compatibility import SWAPPABLE
from .epidiff import convert_epidiff, is_epidiff, read_base
from .key_maps.epidiff import epidiff_mapping
from .key_maps.syncdreamer import VOLUME, is_published, syncdreamer_mapping
from .mvdream import (
    EXTRAS,
    NAMES,
    convert_mvdream,
    family_of,
    looks_local,
    mapping_of,
    recipe_of,
    set_prompts,
)
from .safe_load import read_weights
from .syncdreamer import assign, load_syncdreamer
from .synthetic import fill_synthetic, set_synthetic_prompts
from .zero123 import convert_zero123, looks_like_stable_zero123, zero123_mapping

#: family → a published file, and who links to it
PUBLISHED_FILES = {
    "syncdreamer": (
        "syncdreamer-pretrain.ckpt",
        "the SyncDreamer repository (liuyuan-pal/SyncDreamer)",
    ),
    "zero123": ("zero123-xl.ckpt", "the Zero123 repository (cvlab-columbia/zero123)"),
    "epidiff": ("epidiff.ckpt", "the EpiDiff repository (huanngzh/EpiDiff)"),
    "mvdream": ("sd-v2.1-base-4view.pt", "the MVDream repository (bytedance/MVDream)"),
    "imagedream": (
        "sd-v2.1-base-4view-ipmv.pt (its local variant: sd-v2.1-base-4view-ipmv-local.pt)",
        "the ImageDream repository (bytedance/ImageDream)",
    ),
}


FAMILY_NAMES = {**NAMES, "syncdreamer": "SyncDreamer", "zero123": "Zero123", "epidiff": "EpiDiff"}
#: families whose models read texts
TEXT_FAMILIES = ("mvdream", "imagedream")
#: family → our name → the published one
MAPPINGS = {
    "syncdreamer": syncdreamer_mapping,
    "zero123": zero123_mapping,
    "epidiff": epidiff_mapping,
    "mvdream": mapping_of("mvdream"),
    "imagedream": mapping_of("imagedream"),
}


def load_pretrained(
    make: Callable[[], nn.Module],
    weights: str,
    recipe: str,
    *,
    betas: Tensor | None = None,
    clip: str | None = None,
    swapped: Sequence[str] = (),
    family: str = "syncdreamer",
    base: str | None = None,
    tokenizer: str | None = None,
) -> nn.Module:
    """A model made by `make`, with its weights.

    weights: "embedded"; "none", which is refused with where to get them; "synthetic", numbers by
        rule for tests and benchmarks; or a .safetensors, .ckpt or .pt file, with our names or
        the published ones.
    betas: of the user's noise schedule; a published checkpoint's is compared with it.
    clip: a file of CLIP ViT-L/14 that replaces the image tower of the weights.
    swapped: prefixes of parts that are not the published ones; they stay untrained.
    family: whose published files the recipe loads, a key of `MAPPINGS`.
    base: for family "epidiff": a Zero123, for parts that its file lacks (see `read_base`).
    tokenizer: folder of CLIP's, for prompts that the weights hold no embedding of.
    Raises WeightsError when the weights do not fit. Large models are made without memory of
    their own, so that a load needs little more than the file; weights take the type of the
    parameters that `make` gives.
    """
    if weights == "none":
        file, source = PUBLISHED_FILES[family]
        raise WeightsError(
            f"recipe '{recipe}' ships without weights: download {file}, which {source} links to, "
            f"and pass weights={file.split()[0]}"
        )
    if base is not None and family != "epidiff":
        raise WeightsError(f"base='{base}' is for recipe=epidiff: recipe '{recipe}' has no base")
    tower = image_tower(clip, init_on_meta(make)) if clip else {}
    if weights == "synthetic":
        warnings.warn(
            "weights=synthetic: the weights are SYNTHETIC NUMBERS, not trained; the images are "
            "meaningless, use it for tests and benchmarks only",
            stacklevel=2,
        )
        model = fill_synthetic(init_on_meta(make), mapping_for=MAPPINGS[family])
        set_synthetic_prompts(model)
    elif weights == "embedded":
        model = init_seeded(make)
        load_file_into(model, bundled_path(recipe))
    else:
        path = Path(weights).expanduser()
        return _from_file(make, path, betas, tower, swapped, family, base, tokenizer)
    assign(model, tower)
    return model


def image_tower(path: str, model: nn.Module) -> dict[str, Tensor]:
    """The image tower of a CLIP file, under our names; WeightsError with the path."""
    try:
        return clip_weights(model, read_weights(path)[0])
    except MvdiffError as error:
        text = str(error)
        raise WeightsError(text if path in text else f"'{path}': {text}") from error


def _from_file(
    make: Callable[[], nn.Module],
    path: Path,
    betas: Tensor | None,
    tower: dict[str, Tensor],
    swapped: Sequence[str],
    family: str,
    base: str | None,
    tokenizer: str | None,
) -> nn.Module:
    tensors, metadata = read_weights(path)
    texts = {"path": path, "tensors": tensors, "metadata": metadata, "tokenizer": tokenizer}
    if is_epidiff(tensors) or is_published(tensors):
        _check_family(path, tensors, family)
        if family in TEXT_FAMILIES:
            model = _mvdream(make, path, tensors, swapped, family)
            set_prompts(model, family, **texts)
            return model
        if family == "epidiff":
            return _epidiff(make, path, tensors, base, tower, swapped)
        if family == "zero123":
            return _zero123(make, path, tensors, tower, swapped)
        return _published(make, path, tensors, betas, tower, swapped)
    kind = metadata.get("mvdiff_kind")
    if kind == "zero123" and family != "zero123":
        raise WeightsError(
            f"'{path}' is Zero123, which has no volume and no depth attention: it starts a "
            "training, it cannot generate views with this recipe; recipe=zero123 can, from the "
            "published file"
        )
    if is_clip(tensors):
        raise WeightsError(f"'{path}' is CLIP alone: pass it as clip=, and the model as weights=")
    tensors = {n: t for n, t in tensors.items() if not n.startswith(EXTRAS)}
    model = _from_own_names(make, path, tensors, metadata, tower)
    if family in TEXT_FAMILIES:
        set_prompts(model, family, **texts)
    return model


def _from_own_names(
    make: Callable[[], nn.Module],
    path: Path,
    tensors: dict[str, Tensor],
    metadata: dict[str, str],
    tower: dict[str, Tensor],
) -> nn.Module:
    model = init_on_meta(make)
    own = model.state_dict()
    same = own.keys() == tensors.keys() and all(tensors[n].shape == own[n].shape for n in own)
    if same and all(t.is_floating_point() for t in tensors.values()):
        assign(model, {n: cast_mapped(tensors[n], own[n]) for n in own} | tower)
        return model
    model = init_seeded(make)
    load_tensors(model, tensors, path, metadata)  # swapped parts, or a sentence on what is wrong
    assign(model, tower)
    return model


def _published(
    make: Callable[[], nn.Module],
    path: Path,
    tensors: dict[str, Tensor],
    betas: Tensor | None,
    tower: dict[str, Tensor],
    swapped: Sequence[str],
) -> nn.Module:
    # parts that the file lacks need values of their own, so the model gets memory of its own
    model = init_seeded(make) if swapped else init_on_meta(make)
    try:
        report = load_syncdreamer(model, tensors, betas=betas, swapped=swapped, given=tower)
    except MvdiffError as error:
        raise WeightsError(f"'{path}': {error}") from error
    for difference in report.differences:
        warnings.warn(f"{difference}: yours are used, expect worse pictures", stacklevel=4)
    # a part that neither the published model nor this one has was not swapped
    swapped_parts = [
        part
        for part in swapped
        if SWAPPABLE[part] or any(n.startswith(part) for n in report.untrained)
    ]
    if swapped_parts:
        named = " and ".join(part.rstrip(".") for part in swapped_parts)
        warnings.warn(
            f"{named} are not the published parts ({len(report.untrained)} tensors stay "
            "untrained): the rest was trained with the published ones, so expect worse pictures",
            stacklevel=4,
        )
    return model


def _zero123(
    make: Callable[[], nn.Module],
    path: Path,
    tensors: dict[str, Tensor],
    tower: dict[str, Tensor],
    swapped: Sequence[str],
) -> nn.Module:
    model = init_seeded(make) if swapped else init_on_meta(make)
    own = model.state_dict(keep_vars=True)
    # the volume's embedding of the noise level: built, and read by no part
    skip = (*swapped, "time.")
    try:
        weights = convert_zero123(model, tensors, skip)
    except MvdiffError as error:
        raise WeightsError(f"'{path}': {error}") from error
    if fourth := getattr(model.pose, "fourth", None):
        stable = looks_like_stable_zero123(path)
        if stable != (fourth == "polar"):
            warnings.warn(
                f"'{path.name}' is called like "
                + ("Stable-Zero123" if stable else "Zero123 or Zero123-XL")
                + f", but pose.fourth={fourth} is for another model: pass "
                + f"pose.fourth={'polar' if stable else 'distance'}, unless its name is wrong",
                stacklevel=4,
            )
    _assign_all(model, {n: cast_mapped(t, own[n]) for n, t in weights.items()} | tower)
    return model


def _epidiff(
    make: Callable[[], nn.Module],
    path: Path,
    tensors: dict[str, Tensor],
    base: str | None,
    tower: dict[str, Tensor],
    swapped: Sequence[str],
) -> nn.Module:
    model = init_seeded(make) if swapped else init_on_meta(make)
    base_weights = None if base is None else read_base(init_on_meta(make), base)
    try:
        weights, report = convert_epidiff(
            model, tensors, base=base_weights, swapped=swapped, given=tower
        )
    except MvdiffError as error:
        raise WeightsError(f"'{path}': {error}") from error
    if report.from_base:
        parts = dict.fromkeys(name.split(".")[0] for name in report.from_base)
        warnings.warn(
            f"'{path.name}' lacks {len(report.from_base)} tensors ({', '.join(parts)}), which are "
            f"taken from '{base}'",
            stacklevel=4,
        )
    if report.untrained:
        warnings.warn(
            f"{len(report.untrained)} tensors of parts that are not EpiDiff's stay untrained "
            f"({report.untrained[0]}, …): expect worse pictures",
            stacklevel=4,
        )
    _assign_all(model, weights | tower)
    return model


def _assign_all(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Assign weights, and zeros to parameters on the meta device that no part reads."""
    own = model.state_dict(keep_vars=True)
    unread = {n: torch.zeros_like(p, device="cpu") for n, p in own.items() if p.is_meta}
    assign(model, unread | weights)


def _mvdream(
    make: Callable[[], nn.Module],
    path: Path,
    tensors: dict[str, Tensor],
    swapped: Sequence[str],
    family: str,
) -> nn.Module:
    model = init_seeded(make) if swapped else init_on_meta(make)
    own = model.state_dict(keep_vars=True)
    try:
        weights = convert_mvdream(model, tensors, family, swapped=swapped)
    except MvdiffError as error:
        raise WeightsError(f"'{path}': {error}") from error
    if family == "imagedream" and looks_local(path) == (model.reference == "view"):
        local = looks_local(path)
        warnings.warn(
            f"'{path.name}' is called like ImageDream's {'local' if local else 'pixel'} variant, "
            f"but reference={model.reference} is the other one: use recipe="
            f"{'imagedream_local' if local else 'imagedream'}, unless its name is wrong",
            stacklevel=4,
        )
    _assign_all(model, {n: cast_mapped(t, own[n]) for n, t in weights.items()})
    return model


def published_family(tensors: Mapping[str, Tensor]) -> str | None:
    """The family of a published file, a key of `MAPPINGS`; None where its names do not tell."""
    if is_epidiff(tensors):
        return "epidiff"
    if family := family_of(tensors):
        return family
    if any(name.startswith(VOLUME) for name in tensors):
        return "syncdreamer"
    return "zero123" if "cc_projection.weight" in tensors else None


def _check_family(path: Path, tensors: Mapping[str, Tensor], family: str) -> None:
    """Raise WeightsError for a published file of another family, with the recipe that fits."""
    actual = published_family(tensors)
    if actual == family:
        return
    if family == "epidiff" and actual in ("zero123", None):
        raise WeightsError(
            f"'{path}' is Zero123's checkpoint, without EpiDiff's blocks: use recipe=zero123, "
            "or pass EpiDiff's file as weights= and this one as base="
        )
    # `load_syncdreamer` says what Zero123's file is good for
    if actual is None or (family, actual) == ("syncdreamer", "zero123"):
        return
    raise WeightsError(
        f"'{path}' is {FAMILY_NAMES[actual]}'s checkpoint: use recipe="
        f"{recipe_of(tensors) or actual}"
    )


def init_seeded(make: Callable[[], nn.Module]) -> nn.Module:
    """The model as initialised, with the same numbers each time: swapped parts keep them."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        return make()


def init_on_meta(make: Callable[[], nn.Module]) -> nn.Module:
    """The model with parameters that have shapes and no memory."""
    from accelerate import init_empty_weights

    with init_empty_weights(include_buffers=False):
        return make()
