"""CLIP's text towers, as they lie in published files: token ids → embeddings."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ..denoiser.prompts import normalize
from ..errors import ConfigError, WeightsError
from .key_maps import KeyMapping, mapping_for
from .key_maps.clip import TEXT_MODEL
from .safe_load import read_weights

#: ids that begin and end every text, and the length of a text
START, END, LENGTH = 49406, 49407, 77
#: ImageDream's negative prompt (scripts/demo.py of its authors' repository)
IMAGEDREAM_NEGATIVE = (
    "uniform low no texture ugly, boring, bad anatomy, blurry, pixelated, obscure, unnatural "
    "colors, poor lighting, dull, and unclear."
)
#: texts whose ids are known without a tokenizer
TOKEN_IDS: dict[str, tuple[int, ...]] = {
    "": (),
    ", 3d asset": (267, 274, 323, 13039),
    IMAGEDREAM_NEGATIVE: (
        *(11075, 1042, 871, 16505, 8159, 267, 12519, 267, 2103, 15376, 267, 21977, 267, 14384, 943),
        *(267, 33337, 267, 569, 3288, 5389, 267, 3665, 5799, 267, 19433, 267, 537, 32955, 269),
    ),
}


@dataclass(frozen=True)
class TowerKind:
    """One of the towers that published files hold.

    prefix: of its names. last: whether its last block is computed. act: of its feed-forward.
    pad: id behind the end of a text.
    """

    prefix: str
    last: bool
    act: str
    pad: int

    def published(self, name: str) -> KeyMapping:
        """A parameter of transformers' `CLIPTextModel` → where it lies in the file."""
        plain = name.removeprefix("text_model.")  # of transformers before version 5
        if self.last:  # saved by transformers itself
            return KeyMapping(self.prefix + plain)
        mapping = mapping_for(plain, TEXT_MODEL)
        return KeyMapping(self.prefix + mapping.name, mapping.part, mapping.parts)

    @property
    def block(self) -> str:
        return self.prefix + ("encoder.layers." if self.last else "transformer.resblocks.")


#: OpenCLIP's text tower, the last block left out, padded with 0; OpenAI's by transformers
OPENCLIP, OPENAI = "openclip", "openai"


def tower_kind(tensors: Mapping[str, Tensor]) -> TowerKind | None:
    """Which text tower a file holds; None: none.

    Known: MVDream's and ImageDream's OpenCLIP towers, MVDream 1.5's of OpenAI, and either in a
    file of `mvdiff convert text_tower=true`.
    """
    for prefix in ("cond_stage_model.model.", "clip_model.model.", "text_tower.openclip."):
        if f"{prefix}token_embedding.weight" in tensors:
            return TowerKind(prefix, last=False, act="gelu", pad=0)
    for prefix in ("cond_stage_model.transformer.text_model.", "text_tower.openai."):
        if f"{prefix}embeddings.token_embedding.weight" in tensors:
            return TowerKind(prefix, last=True, act="quick_gelu", pad=END)
    return None


def tower_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A file's text tower under the names of `mvdiff convert`; {} where it holds none."""
    kind = tower_kind(tensors)
    if kind is None:
        return {}
    name = OPENAI if kind.last else OPENCLIP
    return {
        f"text_tower.{name}.{key.removeprefix(kind.prefix)}": tensor
        for key, tensor in tensors.items()
        if key.startswith(kind.prefix) and ".visual." not in key and tensor.is_floating_point()
    }


@torch.no_grad()
def embed_texts(
    tensors: Mapping[str, Tensor],
    texts: Sequence[str],
    *,
    tokenizer: str | Path | None = None,
    heads: int | None = None,
) -> Float[Tensor, "text token context"]:
    """Embeddings of texts by the text tower of a file, in float32.

    MVDream's and ImageDream's version 2.1: all blocks but the last, then the final norm, of all
    positions (OpenCLIP's "penultimate"). MVDream 1.5: all blocks. No projection.
    tokenizer: see `token_ids`. heads: None takes heads of 64 channels, as all published towers do.
    Raises WeightsError where the file holds no text tower, or a part of one.
    """
    from transformers import CLIPTextConfig, CLIPTextModel

    kind = tower_kind(tensors)
    if kind is None:
        raise WeightsError("this file holds no text tower, which texts are embedded by")
    width = tensors[kind.published("embeddings.token_embedding.weight").name].shape[1]
    numbers = {
        int(name.removeprefix(kind.block).partition(".")[0])
        for name in tensors
        if name.startswith(kind.block)
    }
    config = CLIPTextConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=len(numbers) - (0 if kind.last else 1),
        num_attention_heads=heads or max(1, width // 64),
        hidden_act=kind.act,
        vocab_size=49408,
        max_position_embeddings=LENGTH,
    )
    with torch.device("meta"):
        model = CLIPTextModel(config).eval()
    weights = {}
    for name, parameter in model.named_parameters():
        mapping, shape = kind.published(name), tuple(parameter.shape)
        if mapping.name not in tensors or not mapping.fits(tensors[mapping.name], shape):
            raise WeightsError(f"the text tower is incomplete: '{mapping.name}' does not fit it")
        weights[name] = mapping.convert(tensors[mapping.name], shape).float()
    with torch.device("cpu"):
        model.load_state_dict(weights, strict=False, assign=True)
    _restore_buffers(model)
    ids = torch.stack([token_ids(text, kind.pad, tokenizer) for text in texts])
    return torch.cat([model(input_ids=row[None]).last_hidden_state for row in ids])


def _restore_buffers(model: torch.nn.Module) -> None:
    """Give the positions' numbers, which a model made without memory lacks, their values."""
    for module in model.modules():
        for name, buffer in list(module.named_buffers(recurse=False)):
            if name == "position_ids":
                module.register_buffer(name, torch.arange(buffer.shape[-1])[None], persistent=False)


def token_ids(text: str, pad: int, tokenizer: str | Path | None = None) -> Tensor:
    """The 77 ids of a text; longer ones are cut.

    tokenizer: folder with CLIP's vocab.json and merges.txt; not needed for `TOKEN_IDS`.
    Raises ConfigError where it is needed and missing.
    """
    text = normalize(text)
    words = TOKEN_IDS.get(text)
    if words is None:
        if tokenizer is None:
            raise ConfigError(
                f"the prompt '{text}' needs CLIP's tokenizer: pass tokenizer=FOLDER with its "
                "vocab.json and merges.txt, such as the folder tokenizer/ of a Stable Diffusion "
                "model"
            )
        words = tuple(_read_tokenizer(str(tokenizer))(text, add_special_tokens=False)["input_ids"])
    row = [START, *words[: LENGTH - 2], END]
    return torch.tensor(row + [pad] * (LENGTH - len(row)))


@functools.lru_cache(maxsize=2)
def _read_tokenizer(folder: str):
    from transformers import CLIPTokenizer

    path = Path(folder).expanduser()
    missing = [name for name in ("vocab.json", "merges.txt") if not (path / name).is_file()]
    if missing:
        raise ConfigError(f"no {missing[0]} in the tokenizer's folder '{folder}'")
    try:
        return CLIPTokenizer.from_pretrained(str(path), local_files_only=True)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"'{folder}' holds no tokenizer of CLIP: {error}") from error


@dataclass(frozen=True)
class FileTextTower:
    """Embeds texts by the tower of a file, which is read when it is needed and not kept."""

    path: Path
    tokenizer: str | None = None

    def __call__(self, text: str) -> Float[Tensor, "token context"]:
        """Raises ConfigError where the text needs a tokenizer."""
        tensors, _ = read_weights(self.path)
        return embed_texts(tensors, [text], tokenizer=self.tokenizer)[0]
