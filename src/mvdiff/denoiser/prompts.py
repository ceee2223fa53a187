"""Embeddings of texts: those that the weights hold, others by their text tower."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from ..errors import ConfigError


@dataclass(frozen=True)
class PromptEmbeddings:
    """Text → its embedding.

    known: texts, as `normalize` writes them, and their embeddings.
    encode: computes others; None where the weights have no text tower.
    """

    known: Mapping[str, Float[Tensor, "token context"]] = field(default_factory=dict)
    encode: Callable[[str], Float[Tensor, "token context"]] | None = None

    def __call__(self, text: str) -> Float[Tensor, "token context"]:
        """The embedding of a text.

        Raises ConfigError for one that is not known where the weights have no text tower.
        """
        text = normalize(text)
        if text in self.known:
            return self.known[text]
        if self.encode is None:
            known = ", ".join(f"'{each}'" for each in self.known) or "none"
            raise ConfigError(
                f"these weights hold no embedding of the prompt '{text}' and no text tower "
                f"(known: {known}): name it in mvdiff convert prompts=[…], convert with "
                "text_tower=true, or pass the published file as weights="
            )
        return self.encode(text)


def normalize(text: str) -> str:
    """A text as CLIP's tokenizer reads it: lower case, single spaces."""
    return " ".join(text.split()).lower()
