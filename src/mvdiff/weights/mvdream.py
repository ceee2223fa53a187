"""MVDream's and ImageDream's checkpoints → the weights of `MultiViewDenoiser`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from ..denoiser.prompts import PromptEmbeddings, normalize
from ..errors import WeightsError
from .key_maps import KeyMapping, KeyTable, mapping_for
from .key_maps.clip import TEXT_TOWER
from .key_maps.mvdream import (
    IMAGEDREAM,
    IMAGEDREAM_CLIP,
    MVDREAM,
    UNET,
)
from .published import convert_matched, match_keys
from .text_tower import (
    IMAGEDREAM_NEGATIVE,
    FileTextTower,
    embed_texts,
    tower_kind,
    tower_tensors,
)

#: family → our names → the published ones
TABLES: dict[str, KeyTable] = {"mvdream": MVDREAM, "imagedream": IMAGEDREAM}
#: family → its name in sentences
NAMES = {"mvdream": "MVDream", "imagedream": "ImageDream"}
#: family → texts of the conditional branch, where the user gives none, and of the other one
TEXTS = {"mvdream": (", 3d asset", ""), "imagedream": (", 3d asset", IMAGEDREAM_NEGATIVE)}
#: our parameters that no published file holds: computed from it, or read by nothing
COMPUTED, UNREAD = ("context.positive", "context.negative"), ("time.",)
#: tensors of converted files that are no parameters: embeddings of texts, the text tower
EXTRAS = ("prompts.", "text_tower.")
#: beginnings of the schedule's tables
_TABLES = ("betas", "alphas_cumprod", "sqrt_", "log_one_minus", "posterior_")


def mapping_of(family: str) -> Callable[[str], KeyMapping]:
    """Our name → where a parameter lies in a family's files; WeightsError for one they lack."""

    def mapping(name: str) -> KeyMapping:
        try:
            return mapping_for(name, TABLES[family])
        except KeyError as error:
            raise WeightsError(
                f"published weights lack '{name}', which this model needs: use recipe={family} "
                "with its sizes; of its parts, attention, volume, radiance and pose may be swapped"
            ) from error

    return mapping


def family_of(tensors: Mapping[str, Tensor]) -> str | None:
    """Which of the two families a published file belongs to; None: neither."""
    if f"{UNET}camera_embed.0.weight" not in tensors:
        return None
    return "imagedream" if f"{UNET}image_embed.latents" in tensors else "mvdream"


def recipe_of(tensors: Mapping[str, Tensor]) -> str | None:
    """The recipe that loads a published file; None for other families."""
    family = family_of(tensors)
    key = tensors.get(f"{UNET}input_blocks.1.1.proj_in.weight")
    return "mvdream_v1" if family == "mvdream" and key is not None and key.ndim == 4 else family


def convert_mvdream(
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    family: str,
    *,
    swapped: Sequence[str] = (),
    heads: int | None = None,
) -> dict[str, Tensor]:
    """A published file's weights under our names, the constant embeddings of texts included.

    swapped: prefixes of our parts that are not the published ones, left out. heads: of the text
    tower, see `embed_texts`.
    Raises WeightsError when something is missing, unknown or of another shape.
    """
    skip = (*swapped, *COMPUTED, *UNREAD)
    own = {n: p for n, p in model.state_dict().items() if not n.startswith(skip)}
    match = match_keys(own, tensors, mapping_of(family))
    name = NAMES[family]
    if match.missing:
        raise WeightsError(
            f"this is not a whole {name} checkpoint: '{match.missing[0]}' is missing"
        )
    if match.mismatched:
        key, shape, needed = match.mismatched[0]
        raise WeightsError(
            f"this is not a {name} checkpoint for this recipe: '{key}' has shape {shape}, "
            f"expected {needed}; the file is one for recipe={recipe_of(tensors)}"
        )
    known = _unread(own, tensors, swapped)
    if unknown := [n for n in match.unused if not n.startswith(known)]:
        raise WeightsError(f"this is not a {name} checkpoint: '{unknown[0]}' is unknown to it")
    weights = convert_matched(match, own, tensors)
    if not any("context.".startswith(prefix) for prefix in swapped):
        both = embed_texts(tensors, TEXTS[family], heads=heads)
        if tuple(both[0].shape) != tuple(model.context.positive.shape):
            raise WeightsError(
                f"the text tower gives embeddings of shape {tuple(both[0].shape)}, this recipe "
                f"needs {tuple(model.context.positive.shape)}"
            )
        weights |= dict(zip(COMPUTED, both, strict=True))
    return weights


def _unread(
    own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], swapped: Sequence[str]
) -> tuple[str, ...]:
    """Beginnings of the names that a published file has and this model does not read."""
    layer = "embedder.net.vision_model.encoder.layers."
    count = len({n.removeprefix(layer).partition(".")[0] for n in own if n.startswith(layer)})
    last = f"visual.transformer.resblocks.{count}."
    tower = (*TEXT_TOWER, "visual.ln_post.", "visual.proj", last)
    kind = tower_kind(tensors)
    names = [IMAGEDREAM_CLIP + name for name in tower]
    names += [] if kind is None or kind.prefix == IMAGEDREAM_CLIP else [kind.prefix]
    parts = {"unet.slots.": f"{UNET}", "pose.": f"{UNET}camera_embed."}
    return (*_TABLES, *names, *(parts[prefix] for prefix in swapped if prefix in parts))


def convert_to_file(
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    family: str,
    *,
    prompts: Sequence[str] = (),
    suffix: str = "",
    keep_tower: bool = False,
    tokenizer: str | None = None,
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """What `mvdiff convert` writes of a published file: all of the recipe's weights under our
    names, the embeddings of prompts, and on request the text tower; and the header's entries.

    model: of the file's recipe, on the meta device. suffix: of the recipe, added to each prompt.
    tokenizer: see `text_tower.token_ids`.
    Raises WeightsError as `convert_mvdream`, ConfigError for prompts that need a tokenizer.
    """
    weights = convert_mvdream(model, tensors, family)
    own = model.state_dict()
    weights |= {
        n: Tensor.new_zeros(weights[COMPUTED[0]], p.shape)
        for n, p in own.items()
        if n.startswith(UNREAD)
    }
    texts = [normalize(prompt + suffix) for prompt in prompts]
    if texts:
        made = embed_texts(tensors, texts, tokenizer=tokenizer)
        weights |= {f"prompts.{i}": each.clone() for i, each in enumerate(made)}
    if keep_tower:
        weights |= tower_tensors(tensors)
    return weights, {"prompts": json.dumps(texts)}


def set_prompts(
    model: nn.Module,
    family: str,
    *,
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    tokenizer: str | None,
) -> None:
    """Let a model read the texts that a weight file knows or can embed; in place.

    tensors, metadata: of the file.
    """
    context = getattr(model, "context", None)
    if context is None:
        return
    own = dict(zip(TEXTS[family], (context.positive, context.negative), strict=True))
    names = json.loads(metadata.get("prompts", "[]"))
    given = {text: tensors[f"prompts.{i}"].float() for i, text in enumerate(names)}
    known = {normalize(text): x.detach() for text, x in {**own, **given}.items()}
    encode = FileTextTower(path, tokenizer) if tower_kind(tensors) else None
    context.prompts = PromptEmbeddings(known, encode)


def looks_local(path: Path) -> bool:
    """Whether a file is called like ImageDream's local variant, whose weights do not tell."""
    return "local" in path.name.lower()
