"""The examples in the docstrings of what users call and subclass run as they stand there."""

from __future__ import annotations

import doctest

import pytest

import mvdiff
from mvdiff.attention import ATTENTION, ViewAttention
from mvdiff.denoiser.embedders import EMBEDDERS, Embedder
from mvdiff.latents.autoencoders import LATENTS, LatentCodec
from mvdiff.preprocessing.segmentation import SEGMENTERS, Segmenter
from mvdiff.radiance import RADIANCE, RadianceField
from mvdiff.recon import RECONSTRUCTORS
from mvdiff.recon.base import Reconstructor
from mvdiff.registry import Registry
from mvdiff.volumes import VOLUMES
from mvdiff.volumes.base import Volume

REGISTRIES = [ATTENTION, EMBEDDERS, SEGMENTERS, LATENTS, RADIANCE, RECONSTRUCTORS, VOLUMES]
DOCUMENTED = [
    mvdiff.load,
    mvdiff.reconstruct,
    mvdiff.MultiViewPipeline,
    mvdiff.Views,
    mvdiff.Cameras,
    Registry,
    ViewAttention,
    Volume,
    RadianceField,
    LatentCodec,
    Embedder,
    Segmenter,
    Reconstructor,
]


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("documented", DOCUMENTED, ids=lambda documented: documented.__name__)
def test_the_example_runs_and_prints_what_it_says(documented, monkeypatch):
    for registry in REGISTRIES:  # what an example registers is gone afterwards
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    example = doctest.DocTestParser().get_doctest(
        documented.__doc__, {"Registry": Registry}, documented.__name__, None, None
    )
    assert "Example:" in documented.__doc__
    assert any(step.want for step in example.examples)
    report: list[str] = []
    outcome = doctest.DocTestRunner(verbose=False).run(example, out=report.append)
    assert outcome.failed == 0, "".join(report)
