"""Context component: what the UNet's cross-attention reads, where it is more than one token.

`context=token`, a single token of the picture's embedding and the view's pose (Zero123, arXiv
2303.11328), is `MultiViewDenoiser`'s own `project`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..registry import Registry
from .prompts import PromptEmbeddings
from .resampler import Resampler

CONTEXTS = Registry("context")


@dataclass(frozen=True)
class ContextTokens:
    """What one call of the UNet reads, the same for all views.

    tokens: of the cross-attention. image: attended to in a softmax of their own; None: none.
    """

    tokens: Float[Tensor, "batch token context"]
    image: Float[Tensor, "batch image context"] | None = None


class ContextEncoder(nn.Module, ABC):
    """Makes the tokens of the cross-attention.

    image_tokens: whether there are image tokens beside them.

    Example:
        >>> import torch
        >>> from mvdiff.denoiser.context import CONTEXTS
        >>> context = CONTEXTS["text"](embedder_dim=0, context_dim=8, tokens=5)
        >>> context(torch.zeros(2, 0), torch.ones(2), None).tokens.shape
        torch.Size([2, 5, 8])
    """

    image_tokens: bool = False

    @abstractmethod
    def forward(
        self,
        embedding: Float[Tensor, "batch *embedding"],
        keep: Float[Tensor, "batch"],
        text: Float[Tensor, "batch token context"] | None,
    ) -> ContextTokens:
        """The tokens of every object.

        embedding: of the picture, a vector or tokens. keep: 1, or 0 where the condition is
            dropped.
        text: embedding of each object's own text; None takes `positive`.
        """


@CONTEXTS.register("text")
class TextContext(ContextEncoder):
    """The embedding of a text, the same for all views (MVDream, arXiv 2308.16512).

    positive: of the recipe's own text, where no other is given. negative: what stands in its
    place where the condition is dropped. Both are constants of the checkpoint.
    prompts: embeds other texts; set with the weights.

    tokens: length of a text.
    """

    def __init__(self, embedder_dim: int, context_dim: int, tokens: int = 77) -> None:
        super().__init__()
        self.positive = nn.Parameter(torch.zeros(tokens, context_dim), requires_grad=False)
        self.negative = nn.Parameter(torch.zeros(tokens, context_dim), requires_grad=False)
        self.prompts = PromptEmbeddings()

    def text(self, keep: Tensor, text: Tensor | None) -> Float[Tensor, "batch token context"]:
        """Each object's text, the negative one where the condition is dropped."""
        positive = self.positive[None] if text is None else text.to(self.positive.dtype)
        kept = keep[:, None, None].to(torch.bool)
        return torch.where(kept, positive, self.negative[None])

    def forward(
        self,
        embedding: Float[Tensor, "batch *embedding"],
        keep: Float[Tensor, "batch"],
        text: Float[Tensor, "batch token context"] | None,
    ) -> ContextTokens:
        return ContextTokens(self.text(keep, text))


@CONTEXTS.register("text_image")
class TextImageContext(TextContext):
    """A text, and image tokens beside it in decoupled cross-attention (ImageDream, 2312.02201).

    The image tokens come from the picture's embedding by a `Resampler`. Where the condition is
    dropped the embedding is zero before the resampler, whose answer to that is not zero.

    tokens: length of a text. image_count: image tokens. width, layers, heads, head_width: of the
    resampler.
    """

    image_tokens = True

    def __init__(
        self,
        embedder_dim: int,
        context_dim: int,
        tokens: int = 77,
        image_count: int = 16,
        width: int = 1024,
        layers: int = 4,
        heads: int = 12,
        head_width: int = 64,
    ) -> None:
        super().__init__(embedder_dim, context_dim, tokens)
        self.resampler = Resampler(
            inputs=embedder_dim,
            outputs=context_dim,
            width=width,
            tokens=image_count,
            layers=layers,
            heads=heads,
            head_width=head_width,
        )

    def forward(
        self,
        embedding: Float[Tensor, "batch *embedding"],
        keep: Float[Tensor, "batch"],
        text: Float[Tensor, "batch token context"] | None,
    ) -> ContextTokens:
        sequence = embedding[:, None] if embedding.ndim == 2 else embedding
        image = self.resampler(sequence * keep[:, None, None].to(sequence.dtype))
        return ContextTokens(self.text(keep, text), image)
