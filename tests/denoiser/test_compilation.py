"""torch.compile of the UNet: the same output, the same parameter names."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.tiny_recipe import toy_model

from mvdiff.denoiser.compilation import MODES, compile_unet
from mvdiff.errors import MvdiffError

# in a process of its own: Dynamo cannot look through the shape checks of the tests
SCRIPT = """
import sys, torch
from helpers.tiny_recipe import photos, toy_model
from mvdiff.denoiser.compilation import compile_unet

torch.set_grad_enabled(False)
model = toy_model()
known = model.condition(photos(2), torch.tensor([20.0, -5.0]))
noisy = torch.randn(model.latent_shape(2), generator=torch.Generator().manual_seed(0))
time, names = torch.tensor([700.0, 120.0]), list(model.state_dict())
plain = model(noisy, time, known)
compile_unet(model, "default", sys.argv[1])
assert list(model.state_dict()) == names
for some in (None, 5):
    found = model(noisy, time, known, batch_views=some)
    torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-4)
assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
"""


@pytest.mark.parametrize(
    "backend",
    [
        "eager",  # Dynamo alone: whether the UNet can be traced
        pytest.param("inductor", marks=pytest.mark.slow),
    ],
)
def test_a_compiled_unet_gives_the_same_answer(backend):
    if backend == "inductor" and shutil.which("c++") is None:
        pytest.skip("torch.compile needs a C++ compiler, and there is none")
    subprocess.run(
        [sys.executable, "-c", SCRIPT, backend], cwd=Path(__file__).parents[1], check=True
    )


def test_nothing_is_compiled_by_default():
    model = toy_model()
    compile_unet(model, None)
    assert model.unet._compiled_call_impl is None


def test_an_unknown_mode_is_refused():
    with pytest.raises(MvdiffError, match=", ".join(MODES)):
        compile_unet(toy_model(), "fast")
