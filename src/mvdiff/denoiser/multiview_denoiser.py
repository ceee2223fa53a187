"""Joint denoising: one model call moves all views of an object together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from diffusers.models.embeddings import get_timestep_embedding
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..attention.base import ViewContext
from ..cameras.camera import Cameras
from ..cameras.rigs import input_cameras, to_spherical
from ..errors import ConfigError
from ..latents.autoencoders import LatentCodec
from ..radiance.base import RadianceField
from ..utils.mmap import release_pages
from ..volumes.base import Volume, VolumeInputs
from .context import ContextEncoder
from .embedders import Embedder
from .guidance import Condition, classifier_free_guidance
from .pose import PoseEncoder, PoseFeatures, TokenPose, join_poses
from .unet import MultiViewUNet

#: numbers of a pose beside the image's embedding
POSE_DIM = 4
#: How the clean latent of the input image reaches the UNet: concatenated to every noisy view
#: (Zero123, SyncDreamer); as one more view after them (ImageDream); not at all.
REFERENCES: tuple[str, ...] = ("concat", "view", "none")


class MultiViewDenoiser(nn.Module):
    """Volume + view attention + UNet → prediction for every view (SyncDreamer, figure 2).

    rig: cameras of the target views, anywhere. The input picture's camera stands at view 0's
        azimuth and distance with view 0's intrinsics, and at an elevation of its own: a rig
        tells by its first camera where the front is. The pose embedding holds elevation and
        azimuth alone, as published; other distances are known from geometry only. Kept out of
        the weights, so that no checkpoint can replace the user's cameras.
    latents, embedder, volume, unet: the parts.
    radiance: renders the volume into every view, for the UNet to see; None: nothing is rendered.
        With `unet=None` the rendering is the prediction.
    residual: whether the UNet's result is added to the rendering, where clean latents are
        predicted. Opacity, where latents have it, is then the rendering's alone, so that the
        views' outlines agree.
    pose: how the UNet learns where the cameras stand; None: the relative angles beside the
        image's embedding, as published.
    context: what the UNet's cross-attention reads; None: one token of the image's embedding and
        the view's pose, as published.
    reference: of `REFERENCES`. A view among the others needs attention that reads no cameras.
    context_dim: of the UNet's cross-attention tokens.
    time_dim: of the volume's time embedding.
    """

    def __init__(
        self,
        *,
        rig: Cameras,
        latents: LatentCodec,
        embedder: Embedder,
        volume: Volume,
        unet: MultiViewUNet | None,
        context_dim: int,
        time_dim: int,
        radiance: RadianceField | None = None,
        residual: bool = True,
        pose: PoseEncoder | None = None,
        context: ContextEncoder | None = None,
        reference: str = "concat",
    ) -> None:
        super().__init__()
        self.rig = rig
        self.latents, self.embedder, self.volume, self.unet = latents, embedder, volume, unet
        self.radiance, self.residual = radiance, residual
        self.pose = TokenPose(time_dim) if pose is None else pose
        self.pose.connect(unet)
        self.radiance_stem = None
        if radiance is not None and unet is not None:
            # a stem of its own, so that weights without a rendering fit, and start without it
            self.radiance_stem = nn.Conv2d(latents.channels, unet.width, 3, padding=1)
            nn.init.zeros_(self.radiance_stem.weight)
            nn.init.zeros_(self.radiance_stem.bias)
        self.context = context
        self.project = nn.Linear(embedder.dim + POSE_DIM, context_dim) if context is None else None
        self.time_dim = time_dim
        self.time = nn.Sequential(
            nn.Linear(time_dim, time_dim), nn.SiLU(), nn.Linear(time_dim, time_dim)
        )
        if unet is None and (radiance is None or not residual):
            raise ConfigError(
                "without a UNet the rendering is the prediction: choose radiance=voxels with a "
                "volume and noise.prediction_type=sample, or unet=small"
            )
        slots = {} if unet is None else unet.slots
        if reference not in REFERENCES:
            raise ConfigError(
                f"unknown reference '{reference}'; choose from {', '.join(REFERENCES)}"
            )
        if reference == "view" and any(slot.reads_cameras for slot in slots.values()):
            raise ConfigError(
                "reference=view puts the input picture among the views, and this attention reads "
                "the views' cameras: choose attention=joint, or reference=concat"
            )
        if reference == "view" and self.pose.acts_in_blocks:
            raise ConfigError(
                "reference=view gives the UNet one more view than this pose encodes: choose "
                "pose=token, camera_matrix, sincos or none, or reference=concat"
            )
        self.reference = reference
        needs = {need for slot in slots.values() for need in slot.needs}
        self.all_views, self.needs_frusta = "all_views" in needs, "frusta" in needs

    @property
    def device(self) -> torch.device:
        return self.time[0].weight.device

    @property
    def reads_elevation(self) -> bool:
        """Whether the elevation of the input picture's camera changes the views."""
        return self.pose.reads_elevation or bool(self.volume.channels)

    @property
    def latent_size(self) -> int:
        return self.rig.height // self.latents.factor

    def latent_shape(self, batch: int) -> tuple[int, ...]:
        """Shape of the noisy latents of all views: (batch, view, channel, height, width)."""
        return (batch, len(self.rig), self.latents.channels, self.latent_size, self.latent_size)

    def condition(
        self,
        photos: Float[Tensor, "batch 4 height width"] | Float[Tensor, "batch photo 4 height width"],
        elevation: Float[Tensor, "batch"] | Float[Tensor, "batch photo"],
        azimuth: Float[Tensor, "batch photo"] | None = None,
        *,
        embedder_rgba: Float[Tensor, "batch 4 h w"] | None = None,
        text: Float[Tensor, "batch word context"] | None = None,
    ) -> Condition:
        """Everything about the input pictures that the denoiser needs.

        photos: RGBA in [0, 1] on white, of the rig's size: one per object, or several.
        embedder_rgba: the first one as the embedder reads it; None: as in `photos`.
        text: see `Condition`.
        elevation: of their cameras, degrees. azimuth: theirs beyond the first one's, degrees.
        Several serve volumes that lift them (`photo_features`); the first one alone is also
        embedded and laid beside the noisy views.
        """
        several = photos if photos.ndim == 5 else photos[:, None]
        latents = rearrange(several, "b p ... -> (b p) ...")
        latents = rearrange(self.latents.condition(latents), "(b p) ... -> b p ...", b=len(several))
        token = self.embedder(several[:, 0] if embedder_rgba is None else embedder_rgba)
        if not torch.is_grad_enabled():  # many steps follow that need neither
            release_pages(self.embedder, self.latents)
        return self.condition_from(token, latents, elevation, azimuth, text)

    def condition_on_text(self, text: Float[Tensor, "batch word context"]) -> Condition:
        """The condition of models that take a text alone, from its embedding."""
        count = len(text)
        token = text.new_zeros(count, self.embedder.dim)
        latents = text.new_zeros(count, self.latents.channels, self.latent_size, self.latent_size)
        elevation = torch.rad2deg(to_spherical(self.rig)[1][:1]).expand(count)
        return self.condition_from(token, latents, elevation.to(text), text=text)

    def condition_from(
        self,
        token: Float[Tensor, "batch *embedding"],
        latents: Float[Tensor, "batch channel h w"] | Float[Tensor, "batch photo channel h w"],
        elevation: Float[Tensor, "batch"] | Float[Tensor, "batch photo"],
        azimuth: Float[Tensor, "batch photo"] | None = None,
        text: Float[Tensor, "batch word context"] | None = None,
    ) -> Condition:
        """As `condition`, from pictures that are embedded (the first) and encoded already."""
        latents = latents if latents.ndim == 5 else latents[:, None]
        elevation = elevation.reshape(latents.shape[:2])
        if azimuth is not None:
            azimuth = (azimuth - azimuth[:, :1]).flatten()
        rig = self.rig.to(token.device)
        view_azimuth, view_elevation, _ = to_spherical(rig)
        d_elevation = torch.deg2rad(elevation[:, :1].to(rig.K)) - view_elevation
        d_azimuth = (view_azimuth - view_azimuth[0]).expand_as(d_elevation)
        zero = torch.zeros_like(d_elevation)
        ones = torch.ones(len(token), device=token.device)
        return Condition(
            token=token,
            photos=latents,
            pose=torch.stack([d_elevation, d_azimuth.sin(), d_azimuth.cos(), zero], dim=-1),
            cameras=input_cameras(rig, elevation.flatten(), azimuth).resize(self.latent_size),
            keep_token=ones,
            keep_latent=ones,
            keep_volume=ones,
            text=text,
        )

    def forward(
        self,
        noisy: Float[Tensor, "batch view channel height width"],
        timestep: Float[Tensor, "batch"],
        condition: Condition,
        *,
        target_views: Sequence[int]
        | Int[Tensor, "target"]
        | Int[Tensor, "batch target"]
        | None = None,
        volume_views: Int[Tensor, "source"] | Int[Tensor, "batch source"] | None = None,
        batch_views: int | None = None,
        guidance: float = 1.0,
        with_rendering: bool = False,
    ) -> (
        Float[Tensor, "batch target channel height width"]
        | tuple[
            Float[Tensor, "batch target channel height width"],
            Float[Tensor, "batch target channel height width"] | None,
        ]
    ):
        """Prediction (noise, clean latent or velocity, as trained) for the target views.

        noisy: latents of ALL views at one noise level per object.
        timestep: of the noise schedule, one per object.
        target_views: positions in the rig, for all objects or one row per object; default all.
        volume_views: positions of the noisy views that the volume is built from, likewise;
            default all.
        batch_views: views the UNet takes at a time, to save memory; the result is the same.
            Ignored by attention that needs all views at once.
        guidance: scale of classifier-free guidance; 1 is the conditional prediction alone.
        with_rendering: also return the rendering, for its own loss; None where there is none, or
            where it is the prediction.
        """
        cameras = self.rig.to(noisy.device).resize(self.latent_size)
        time = self.embed_time(timestep)
        index = torch.as_tensor(range(len(self.rig)) if target_views is None else target_views)
        if index.ndim == 2 and self.all_views:
            raise ConfigError("attention that needs all views needs the same views of each object")

        # build the volume of all objects, and what is rendered from it
        volume = self._volume(noisy, cameras, time, condition, volume_views)
        grid = (
            None
            if self.radiance is None
            else self.radiance.decode(volume, condition.photos, condition.cameras)
        )

        # denoise in chunks of views
        chunk_size = index.shape[-1] if self.all_views or not batch_views else batch_views
        predictions, renderings = [], []
        for chunk in index.split(chunk_size, dim=-1):
            chunk_cameras, chunk_noisy = cameras[chunk.flatten()], _pick(noisy, chunk)
            frusta = {}
            if self.needs_frusta:
                pose = _pick(condition.pose, chunk)
                frusta = self.volume.frusta(volume, chunk_cameras, time, pose)
            scene = ViewContext(chunk_cameras, frusta, time, chunk)
            rendering = None if grid is None else self.radiance.render(grid, cameras, chunk)
            pred = self._denoise(chunk_noisy, timestep, condition, scene, rendering)
            # classifier-free guidance
            if guidance != 1.0:
                uncond, uncond_scene = condition.unconditional(), replace(scene, empty=True)
                uncond_pred = self._denoise(chunk_noisy, timestep, uncond, uncond_scene, rendering)
                pred = classifier_free_guidance(pred, uncond_pred, guidance)
            predictions.append(pred)
            renderings.append(rendering)

        prediction = torch.cat(predictions, dim=1)
        if not with_rendering:
            return prediction
        rendering_is_prediction = grid is None or self.unet is None
        return prediction, None if rendering_is_prediction else torch.cat(renderings, dim=1)

    def embed_time(self, timestep: Float[Tensor, "batch"]) -> Float[Tensor, "batch time"]:
        """The embedding of the noise level for volume and attention."""
        waves = get_timestep_embedding(timestep, self.time_dim, True, downscale_freq_shift=0)
        return self.time(waves.to(self.time[0].weight.dtype))

    def _volume(
        self,
        noisy: Tensor,
        cameras: Cameras,
        time: Tensor,
        cond: Condition,
        index: Tensor | None,
    ) -> Tensor:
        """The world volume of the views at `index`."""
        pose = cond.pose
        if index is not None:
            noisy, pose = _pick(noisy, index), _pick(pose, index)
            cameras = cameras[index.flatten()]
        return self.volume.build(
            VolumeInputs(noisy, cameras, time, pose, cond.photos, cond.cameras)
        )

    def _denoise(
        self,
        noisy: Tensor,
        timestep: Tensor,
        cond: Condition,
        scene: ViewContext,
        rendering: Tensor | None = None,
    ) -> Tensor:
        keep = cond.keep_volume[:, None, None, None, None, None]
        if rendering is not None:
            rendering = rendering * (0.0 if scene.empty else keep[..., 0].to(rendering.dtype))
        if self.unet is None:
            return rendering
        gated_frusta = {
            # zeros without memory of their own
            factor: f.new_zeros(()).expand_as(f) if scene.empty else f * keep.to(f.dtype)
            for factor, f in scene.frusta.items()
        }
        scene = replace(scene, frusta=gated_frusta)
        flat = None
        if rendering is not None:
            # the rendering has its own loss: the UNet's gradient corrects the UNet alone
            rendering = rendering.detach()
            flat = rearrange(rendering.to(noisy.dtype), "b v ... -> (b v) ...")
        out = self._call_unet(noisy, timestep, cond, scene, flat)
        if rendering is None or not self.residual:
            return out
        if self.latents.alpha:  # outlines stay those of one solid: the UNet corrects colors
            opacity = self.latents.patch**2
            out = torch.cat([out[:, :, :-opacity], torch.zeros_like(out[:, :, -opacity:])], dim=2)
        return out + rendering

    def _call_unet(
        self,
        noisy: Tensor,
        timestep: Tensor,
        cond: Condition,
        scene: ViewContext,
        rendering: Tensor | None,
    ) -> Tensor:
        """The UNet's answer for the noisy views, with the input picture where `reference` says."""
        views, input_cameras = noisy.shape[1], cond.cameras[:: cond.photos.shape[1]]
        pose = self.pose(_pick(cond.pose, scene.index), scene.cameras, input_cameras)
        stem = None
        if rendering is not None:
            stem = self.radiance_stem(rendering).unflatten(0, noisy.shape[:2])
        latent = cond.latent * cond.keep_latent[:, None, None, None].to(cond.latent.dtype)
        latent = latent[:, None].to(noisy.dtype)
        if self.reference == "concat":
            noisy = torch.cat([noisy, latent.expand(-1, views, -1, -1, -1)], dim=2)
        elif self.reference == "view":
            noisy = torch.cat([noisy, latent], dim=1)
            pose = join_poses(pose, self.pose.of_reference(input_cameras))
            stem = None if stem is None else torch.cat([stem, torch.zeros_like(stem[:, :1])], dim=1)
        context, image = self._context(cond, pose, noisy.shape[1])
        scene = replace(scene, encoding=pose.encoding)
        out = self.unet(
            noisy, timestep, context, scene, stem, pose.time, image, pose_maps=pose.maps
        )
        return out[:, :views]

    def _context(
        self, cond: Condition, pose: PoseFeatures, views: int
    ) -> tuple[Tensor, Tensor | None]:
        """Tokens of the cross-attention and image tokens beside them, of every view."""
        if self.context is not None:
            made = self.context(cond.token, cond.keep_token, cond.text)
            tokens, image = (
                None if x is None else x[:, None].expand(-1, views, -1, -1)
                for x in (made.tokens, made.image)
            )
            return tokens, image
        # each view's token: the image's embedding with that view's pose
        vector = cond.token if cond.token.ndim == 2 else cond.token[:, 0]
        vector = vector[:, None].expand(-1, views, -1)
        zeros = vector.new_zeros(len(vector), views, POSE_DIM)
        numbers = zeros if pose.token is None else pose.token.to(vector.dtype)
        token = self.project(torch.cat([vector, numbers], dim=-1))
        return (token * cond.keep_token[:, None, None].to(token.dtype))[:, :, None], None


def _pick(x: Tensor, index: Tensor) -> Tensor:
    """Views at `index`: the same for every object, or one row per object."""
    return x[:, index] if index.ndim == 1 else x[torch.arange(len(x))[:, None], index]
