"""Names of the published SyncDreamer checkpoint for the parameters of our denoiser.

The published file keeps the UNet as Stable Diffusion 1.x does (`input_blocks`, …), the volume
networks under `spatial_volume`, and the time embedding and projection on top.
"""

from __future__ import annotations

import re

_UNET = "model.diffusion_model."
_VOLUME = "spatial_volume."

#: parts of a residual block: ours (diffusers) → published (latent-diffusion)
_RESIDUAL = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
#: parts of a depth-wise attention block
_DEPTHWISE = {"query_in": "proj_in", "context_in": "proj_context", "out": "proj_out"}
#: parts of a 3D block; the transposed ones of the way up call their norm differently
_DOWN3D = {"time": "t_conv", "view": "v_conv", "norm": "bn", "conv": "conv"}
_UP3D = {**_DOWN3D, "norm": "norm"}
#: the decoder blocks 3, 4, … have slots, published under 0, 1, …
_FIRST_SLOT = 3


def published_name(name: str) -> str:
    """The published name of a parameter of `MultiViewDenoiser` (volume "concat").

    Raises KeyError for a parameter the published model does not have.
    """
    for pattern, build in _RULES:
        match = re.fullmatch(pattern, name)
        if match:
            return build(*match.groups())
    raise KeyError(f"'{name}' has no counterpart in the published model")


def _block(place: str, number: str, rest: str) -> str:
    head, _, tail = rest.partition(".")
    return f"{_UNET}{place}.{number}.{_RESIDUAL.get(head, head)}.{tail}"


def _down(index: str, number: str, rest: str) -> str:
    # block 0 is the stem; a strided convolution is called `op`
    rest = f"op.{rest.removeprefix('conv.')}" if rest.startswith("conv.") else rest
    return _block(f"input_blocks.{int(index) + 1}", number, rest)


def _slot(name: str, rest: str) -> str:
    place = "middle_conditions"
    if name != "middle":
        place = f"output_conditions.{int(name) - _FIRST_SLOT}"
    head, _, tail = rest.partition(".")
    head = _DEPTHWISE.get(head, f"depth_attn.{head}")
    return f"{_UNET}{place}.{head}.{tail}"


def _part3d(names: dict[str, str], rest: str) -> str:
    head, _, tail = rest.partition(".")
    return f"{names[head]}.{tail}"


def _world_down(level: str, number: str, rest: str) -> str:
    index = 2 * int(level)
    block = (f"conv{index + 1}", f"conv{index + 2}_0", f"conv{index + 2}_1")[int(number)]
    return f"{_VOLUME}spatial_volume_feats.{block}.{_part3d(_DOWN3D, rest)}"


def _world_up(number: str, rest: str) -> str:
    return f"{_VOLUME}spatial_volume_feats.conv{7 + int(number)}.{_part3d(_UP3D, rest)}"


def _frustum_down(level: str, number: str, rest: str) -> str:
    index = 2 * int(level) + 1 + int(number)
    return f"{_VOLUME}frustum_volume_feats.conv{index}.{_part3d(_DOWN3D, rest)}"


_ENCODER = f"{_VOLUME}target_encoder."
_RULES = (
    (r"time\.(.+)", lambda rest: f"time_embed.{rest}"),
    (r"project\.(.+)", lambda rest: f"cc_projection.{rest}"),
    (r"volume\.encoder\.stem\.(.+)", lambda rest: f"{_ENCODER}init_conv.{rest}"),
    (
        r"volume\.encoder\.(time|view)\.(\d+)\.(.+)",
        lambda kind, number, rest: f"{_ENCODER}out_conv{number}.{kind}_embed.{rest}",
    ),
    (
        r"volume\.encoder\.blocks\.(\d+)\.(.+)",
        lambda number, rest: f"{_ENCODER}out_conv{number}.conv.{rest}",
    ),
    (r"volume\.encoder\.out\.(.+)", lambda rest: f"{_ENCODER}final_out.{rest}"),
    (r"volume\.net\.stem\.(.+)", lambda rest: f"{_VOLUME}spatial_volume_feats.init_conv.{rest}"),
    (
        r"volume\.net\.stem_blocks\.0\.(.+)",
        lambda rest: f"{_VOLUME}spatial_volume_feats.conv0.{_part3d(_DOWN3D, rest)}",
    ),
    (r"volume\.net\.down\.(\d)\.(\d)\.(.+)", _world_down),
    (r"volume\.net\.up\.(\d)\.(.+)", _world_up),
    (
        r"volume\.frustum_net\.net\.stem\.(.+)",
        lambda rest: f"{_VOLUME}frustum_volume_feats.conv0.{rest}",
    ),
    (r"volume\.frustum_net\.net\.down\.(\d)\.(\d)\.(.+)", _frustum_down),
    (
        r"volume\.frustum_net\.net\.up\.(\d)\.(.+)",
        lambda number, rest: f"{_VOLUME}frustum_volume_feats.up{number}.{_part3d(_UP3D, rest)}",
    ),
    (r"unet\.time\.(.+)", lambda rest: f"{_UNET}time_embed.{rest}"),
    (r"unet\.stem\.(.+)", lambda rest: f"{_UNET}input_blocks.0.0.{rest}"),
    (r"unet\.out\.(.+)", lambda rest: f"{_UNET}out.{rest}"),
    (r"unet\.down\.(\d+)\.(\d)\.(.+)", _down),
    (r"unet\.middle\.(\d)\.(.+)", lambda number, rest: _block("middle_block", number, rest)),
    (
        r"unet\.up\.(\d+)\.(\d)\.(.+)",
        lambda index, number, rest: _block(f"output_blocks.{index}", number, rest),
    ),
    (r"unet\.slots\.(\w+)\.(.+)", _slot),
)
