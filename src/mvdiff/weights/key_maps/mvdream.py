"""MVDream's and ImageDream's checkpoints: flat dictionaries with latent-diffusion's names.

Tables for `MultiViewDenoiser` with attention "joint" in place of the UNet's own.
"""

from __future__ import annotations

from . import clip, latent_diffusion
from .mapping import KeyTable, with_prefixes

#: prefixes of the parts; MVDream's text tower and ImageDream's two towers are OpenCLIP's
UNET = "model.diffusion_model."
MVDREAM_VAE, MVDREAM_CLIP = "first_stage_model.", "cond_stage_model.model."
IMAGEDREAM_VAE, IMAGEDREAM_CLIP = "vae_model.", "clip_model.model."

_NET: KeyTable = {
    "pose.net": f"{UNET}camera_embed",
    **with_prefixes("unet.", UNET, latent_diffusion.UNET),
    **with_prefixes("unet.slots.", UNET, latent_diffusion.SELF_ATTENTION),
}

#: `MultiViewDenoiser` of the recipe `mvdream` → the published checkpoint
MVDREAM: KeyTable = {
    **_NET,
    **with_prefixes("latents.net.", MVDREAM_VAE, latent_diffusion.VAE),
}
#: `MultiViewDenoiser` of the recipe `imagedream` → the published checkpoint
IMAGEDREAM: KeyTable = {
    **_NET,
    "context.resampler": f"{UNET}image_embed",
    **with_prefixes("latents.net.", IMAGEDREAM_VAE, latent_diffusion.VAE),
    **with_prefixes("embedder.net.", IMAGEDREAM_CLIP, clip.IMAGE_TOWER),
}
