"""PreparedImage → Views → Mesh, readable top to bottom."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from .cameras.rigs import to_spherical
from .config.inputs import check_input
from .denoiser.guidance import Condition, concat_conditions
from .diffusion.sampling import initial_noise, sample
from .errors import ConfigError
from .evaluation.ranking import Sample, rank
from .latents.autoencoders import check_finite
from .preprocessing.azimuth import check_azimuths
from .preprocessing.elevation import Elevation, check_elevation, is_auto, read_elevation
from .preprocessing.framing import Framing
from .preprocessing.photo import PreparedImage, load_photo
from .utils.oom import AdaptiveChunk
from .utils.precision import DTYPES
from .views import Views

if TYPE_CHECKING:  # it imports diffusers, which takes seconds
    from .denoiser.multiview_denoiser import MultiViewDenoiser


@dataclass(frozen=True)
class SamplerConfig:
    """How noise becomes views.

    scheduler: makes a fresh diffusers scheduler (they keep state).
    steps, eta: see `sampling.sample`. guidance: classifier-free guidance scale, 1 is off.
    interval: (lowest, highest) time that is guided, as shares of the schedule's, 1 being pure
        noise; other steps take the conditional answer alone, at half the price (arXiv
        2404.07724). None guides every step.
    """

    scheduler: Callable[[], Any]
    steps: int
    eta: float = 0.0
    guidance: float = 1.0
    interval: tuple[float, float] | None = None

    def guidance_at(self, share: float) -> float:
        """The scale at a time, as a share of the schedule's."""
        if self.interval is None or self.interval[0] <= share <= self.interval[1]:
            return self.guidance
        return 1.0


@torch.no_grad()
def generate_views(
    model: MultiViewDenoiser,
    sampler: SamplerConfig,
    photo: Float[Tensor, "batch 4 height width"],
    elevation: Float[Tensor, "batch"],
    seeds: Sequence[int],
    *,
    batch_views: int | None = None,
    callback: Callable[[int, int, Tensor], None] | None = None,
) -> list[Views]:
    """All target views of each photo, denoised together.

    photo: RGBA in [0, 1], colors on white, of the rig's size. elevation: degrees.
    seeds: one an object; the same seed gives the same views, whatever else is in the batch.
    batch_views: views the UNet takes at a time; halved with a warning when memory runs out.
    callback: called with (step, steps, latents) after every step.
    """
    condition = model.condition(photo.to(model.device), elevation.to(model.device))
    at_once = views_at_once(model, batch_views)
    latents = denoise_views(model, sampler, condition, seeds, at_once, callback=callback)
    return [decode_views(model, latent) for latent in latents]


def views_at_once(model: MultiViewDenoiser, batch_views: int | None) -> AdaptiveChunk:
    """All views, or `batch_views`, as long as memory lasts."""
    count = len(model.rig)
    return AdaptiveChunk(min(batch_views or count, count), splits=not model.all_views)


@torch.no_grad()
def denoise_views(
    model: MultiViewDenoiser,
    sampler: SamplerConfig,
    condition: Condition,
    seeds: Sequence[int],
    at_once: AdaptiveChunk,
    *,
    callback: Callable[[int, int, Tensor], None] | None = None,
) -> Float[Tensor, "batch view channel h w"]:
    """Clean latents of all views of each object, from noise. Arguments as `generate_views`'s."""
    noise, generators = initial_noise(model.latent_shape(len(seeds)), list(seeds), model.device)
    scheduler = sampler.scheduler()
    times = scheduler.config.num_train_timesteps

    def denoise(x: Tensor, timestep: Tensor) -> Tensor:
        scale = sampler.guidance
        if sampler.interval is not None:
            scale = sampler.guidance_at(float(timestep[0]) / times)
        return at_once.fit(
            lambda some: model(x, timestep, condition, batch_views=some, guidance=scale).float()
        )

    return sample(
        denoise,
        scheduler,
        noise,
        steps=sampler.steps,
        eta=sampler.eta,
        generators=generators,
        callback=callback,
    )


@torch.no_grad()
def decode_views(model: MultiViewDenoiser, latent: Float[Tensor, "view channel h w"]) -> Views:
    """The pictures of one object's latents; ConfigError when they are not finite."""
    rgb, alpha = model.latents.decode(check_finite(latent))
    return Views.from_white(rgb, alpha, model.rig)


@dataclass(frozen=True)
class MultiViewPipeline:
    """A recipe ready to use: what `mvdiff.load` returns.

    Copies (`copy.deepcopy`) and pickles give the same views; a compiled network cannot be pickled.

    denoiser: the network, on its device, in eval mode and frozen. To train it further:
        `model.denoiser.train().requires_grad_(True)`; whole runs are `mvdiff train`'s.
    sampler: how noise becomes views.
    segmenter: finds the object in a photo.
    framing: frames the cut-out photo: (RGBA photo, side in pixels) → PreparedImage.
    precision: "fp32", or "bf16" or "fp16" for autocast.
    config: the resolved config it was built from.

    Example:
        >>> import mvdiff
        >>> from importlib.resources import files
        >>> model = mvdiff.load("tiny", overrides=["sampler.steps=1"], device="cpu")
        >>> photo = model.prepare(files("mvdiff") / "assets" / "example.png")
        >>> photo.rgba.shape
        torch.Size([4, 64, 64])
        >>> condition = model.encode([photo], elevation=[20.0])
        >>> at_once = model.views_at_once(None)  # fewer where memory is short
        >>> latents = model.denoise([condition], [0], at_once)
        >>> latents.shape  # batch, view, channel, height, width
        torch.Size([1, 16, 256, 8, 8])
        >>> model.decode(latents)[0].alpha.shape
        torch.Size([16, 1, 64, 64])
    """

    denoiser: MultiViewDenoiser
    sampler: SamplerConfig
    segmenter: Callable[[Any], Any]
    framing: Framing
    precision: str
    config: Any

    def prepare(self, image: Any) -> PreparedImage:
        """Read, cut out and frame a picture (path, PIL image, array or tensor)."""
        cut = self.segmenter(load_photo(image))
        photo = self.framing(cut, self.denoiser.rig.height)
        return replace(photo, segmentation=cut.info.get("segmentation"))

    @overload
    def generate(
        self,
        image: Any = None,
        *,
        prompt: str | None = None,
        elevation: Any = None,
        azimuth: Any = None,
        seed: int = 0,
        samples: None = None,
        batch_views: int | None = None,
        callback: Callable[[int, int, Tensor], None] | None = None,
    ) -> Views: ...

    @overload
    def generate(
        self,
        image: Any = None,
        *,
        prompt: str | None = None,
        elevation: Any = None,
        azimuth: Any = None,
        seed: int = 0,
        samples: int,
        batch_views: int | None = None,
        callback: Callable[[int, int, Tensor], None] | None = None,
    ) -> list[Sample]: ...

    def generate(
        self,
        image: Any = None,
        *,
        prompt: Any = None,
        elevation: Any = None,
        azimuth: Any = None,
        seed: Any = 0,
        samples: Any = None,
        batch_views: Any = None,
        callback: Callable[[int, int, Tensor], None] | None = None,
    ) -> Any:
        """One picture, or several, → consistent views of the object from the recipe's cameras.

        image: path, PIL image, array (height, width, 3 or 4) or tensor; with `azimuth` a list of
            them, pictures of one object. Recipes that take a text take no picture.
        prompt: a text, for recipes that read one: what to generate (`mvdream`), or what the
            picture shows (`imagedream`).
        elevation: degrees the picture's camera stood above the object, in [-90, 90]; None (or
            "auto") estimates it from the picture. Of several pictures one each, or one for all;
            arrays and tensors will do.
        azimuth: degrees each of several pictures' cameras stood around the object, rising
            counter-clockwise seen from above; the first picture's is the front.
        seed: a whole number; the same seed gives the same views.
        samples: how many results, with the seeds `seed`, `seed` + 1, …; they are returned as a
            list of `ranking.Sample`, the best first, as `mvdiff generate samples=N` orders them.
            None (the default) returns one result's `Views`.
        Raises ConfigError on pictures and numbers that make no sense.
        """
        if azimuth is None and isinstance(image, list | tuple):
            raise ConfigError(
                f"expected one picture, got {len(image)}: call generate for each, or give azimuth= "
                "if they show one object"
            )
        images = list(image) if isinstance(image, list | tuple) else [image]
        check_input(self.config, has_image=image is not None, prompt=prompt)
        images = [] if image is None else images
        azimuth = _plain(azimuth)
        if azimuth is not None:
            azimuth = check_azimuths(azimuth, len(images))
        elevations = self._elevations(elevation, len(images))
        seeds = _seeds(seed, 1 if samples is None else samples)
        at_once = self.views_at_once(batch_views)
        photos = [self.prepare(each) for each in images]
        degrees = [
            self.elevation_of(value, photo).degrees
            for value, photo in zip(elevations, photos, strict=True)
        ]
        condition = self.encode(photos, degrees, azimuth, prompt)
        made = [
            self.decode(self.denoise([condition], [each], at_once, callback=callback)[0])
            for each in seeds
        ]
        if samples is None:
            return made[0]
        return rank(made, seeds, photos[0] if photos else None, degrees[0] if degrees else 0.0)

    def elevation_of(self, value: Any, photo: PreparedImage) -> Elevation:
        """The elevation of a prepared photo's camera: the user's number, or where it is "auto" (or
        None) the estimate. Networks that read none take the photo to be at that of view 0.
        """
        if self.denoiser.reads_elevation:
            return read_elevation(value, photo)
        front = float(torch.rad2deg(to_spherical(self.denoiser.rig)[1][0]))
        if is_auto(value):
            return Elevation(round(front, 4))
        given = read_elevation(value, photo)
        if abs(given.degrees - front) > 0.5:
            warnings.warn(
                f"recipe '{self.config.recipe_name}' reads no elevation, it takes the picture to "
                f"be at that of the front view, {front:.0f}°: pass rig.elevation="
                f"{given.degrees:g}, or leave out elevation=",
                stacklevel=3,
            )
        return given

    @staticmethod
    def _elevations(elevation: Any, count: int) -> list[Any]:
        """One for each of `count` pictures, checked; None where it is to be estimated."""
        elevation = _plain(elevation)
        several = isinstance(elevation, Iterable) and not isinstance(elevation, str)
        values = [_plain(e) for e in elevation] if several else [elevation] * count
        if len(values) != count:
            raise ConfigError(
                f"give one elevation for all pictures or one each: got {len(values)} for {count}"
            )
        return [None if is_auto(value) else check_elevation(value) for value in values]

    def generate_batch(
        self,
        photos: Sequence[PreparedImage],
        elevations: Sequence[float],
        seeds: Sequence[int],
        *,
        batch_views: int | None = None,
        callback: Callable[[int, int, Tensor], None] | None = None,
    ) -> list[Views]:
        """As `generate`, for several prepared photos (or several seeds of one) in one batch.

        Raises ConfigError unless there are as many elevations and seeds as photos.
        """
        if not len(photos) == len(elevations) == len(seeds) > 0:
            raise ConfigError(
                f"expected as many elevations and seeds as photos, got {len(elevations)} and "
                f"{len(seeds)} for {len(photos)}"
            )
        conditions = [self.encode([p], [e]) for p, e in zip(photos, elevations, strict=True)]
        at_once = self.views_at_once(batch_views)
        latents = self.denoise(conditions, seeds, at_once, callback=callback)
        return [self.decode(latent) for latent in latents]

    # The three stages by themselves: threads of their own may run them for different pictures.

    def encode(
        self,
        photos: Sequence[PreparedImage],
        elevation: Sequence[float],
        azimuth: Sequence[float] | None = None,
        prompt: str | None = None,
    ) -> Condition:
        """What the denoiser needs to know of one object's prepared photos (usually one).

        elevation, azimuth: of their cameras, degrees; see `generate`. prompt: likewise.
        Raises ConfigError on several photos where the model takes one, and where it needs a text
        or can make none of this one.
        """
        check_input(self.config, has_image=bool(photos), prompt=prompt)
        text = self._embed_prompt(prompt)
        if text is not None and not photos:
            return self.denoiser.condition_on_text(text)
        azimuth = check_azimuths(azimuth, len(photos))
        if len(photos) > 1 and self.denoiser.reference == "view":
            raise ConfigError(
                f"recipe '{self.config.recipe_name}' takes one picture an object, got "
                f"{len(photos)}: its network has one reference view, which may be any picture of "
                "the object's front, but not several"
            )
        if len(photos) > 1 and not getattr(self.denoiser.volume, "photo_features", 0):
            raise ConfigError(
                f"recipe '{self.config.recipe_name}' takes one picture an object, got "
                f"{len(photos)}: only volumes that lift the pictures (photo_features > 0) use more"
            )
        degrees = torch.tensor([[check_elevation(e) for e in elevation]])
        device = self.denoiser.device
        embedder_rgba = photos[0].embedder_rgba
        with torch.no_grad(), self._autocast():
            return self.denoiser.condition(
                torch.stack([photo.rgba for photo in photos])[None].to(device),
                degrees.to(device),
                torch.tensor([azimuth]).to(device),
                embedder_rgba=None if embedder_rgba is None else embedder_rgba[None].to(device),
                text=text,
            )

    def _embed_prompt(self, prompt: str | None) -> Float[Tensor, "1 token context"] | None:
        """A prompt's embedding, the recipe's suffix added; None without one."""
        if prompt is None:
            return None
        text = prompt.strip() + self.config.prompt_suffix
        with torch.no_grad():
            return self.denoiser.context.prompts(text)[None].to(self.denoiser.device)

    def views_at_once(self, batch_views: int | None) -> AdaptiveChunk:
        """For `denoise`; one for many calls remembers what memory allows."""
        if batch_views is not None and not (_is_whole(batch_views) and batch_views >= 1):
            raise ConfigError(f"batch_views must be a whole number from 1, got {batch_views}")
        return views_at_once(self.denoiser, batch_views)

    def denoise(
        self,
        conditions: Sequence[Condition],
        seeds: Sequence[int],
        at_once: AdaptiveChunk,
        *,
        callback: Callable[[int, int, Tensor], None] | None = None,
    ) -> Float[Tensor, "batch view channel h w"]:
        """Clean latents of the objects, a seed each, denoised in one batch."""
        for seed in seeds:
            _check_seed(seed)
        condition = concat_conditions(conditions)
        with self._autocast():
            return denoise_views(
                self.denoiser, self.sampler, condition, seeds, at_once, callback=callback
            )

    @overload
    def decode(self, latent: Float[Tensor, "view channel h w"]) -> Views: ...

    @overload
    def decode(self, latent: Float[Tensor, "batch view channel h w"]) -> list[Views]: ...

    def decode(self, latent: Float[Tensor, "*batch view channel h w"]) -> Views | list[Views]:
        """The pictures of one object's latents, or of a batch of objects (a list of views).

        Raises ConfigError when they are not finite or of another shape than `denoise` makes.
        """
        expected = tuple(self.denoiser.latent_shape(1)[1:])
        if not isinstance(latent, Tensor):
            raise ConfigError(f"latents must be a tensor, got {type(latent).__name__}")
        if latent.ndim not in (4, 5) or tuple(latent.shape[-4:]) != expected:
            raise ConfigError(
                f"latents must have shape {expected} (view, channel, height, width), or a batch of "
                f"such, got {tuple(latent.shape)}"
            )
        if latent.ndim == 5:
            return [self.decode(one) for one in latent]
        with self._autocast():
            return decode_views(self.denoiser, latent)

    def _autocast(self) -> torch.autocast:
        device = self.denoiser.device.type
        lower = self.precision != "fp32"
        dtype = DTYPES[self.precision] if lower else None
        return torch.autocast(device, dtype, enabled=lower)


def check_projection(model: MultiViewPipeline) -> None:
    """Warn about target cameras of another projection than the weights or photos have.

    The embedded weights learned perspective cameras, and photos are perspective, too.
    """
    if model.denoiser.rig.projection != "orthographic":
        return
    if str(model.config.get("weights")) == "embedded":
        warnings.warn(
            "the rig is orthographic, but the embedded weights learned perspective cameras: expect "
            "poor views, or use rig.projection=perspective",
            stacklevel=2,
        )
    else:
        warnings.warn(
            "the rig is orthographic, so the input picture should be, too: a photo taken from near "
            "by has perspective, which becomes part of the object's shape",
            stacklevel=2,
        )


def _plain(number: Any) -> Any:
    """Python's own numbers, or lists of them, of an array's or tensor's."""
    return number.tolist() if isinstance(number, Tensor | np.ndarray | np.generic) else number


def _check_seed(seed: Any) -> None:
    if not _is_whole(seed) or not 0 <= seed < 2**63:
        raise ConfigError(f"seed must be a whole number in [0, 2^63), got {seed}")


def _seeds(first: Any, count: Any) -> list[int]:
    """`count` seeds from `first` on; ConfigError for what is no seed or no count."""
    _check_seed(first)
    if not _is_whole(count) or not 1 <= count <= 10_000:
        raise ConfigError(f"samples must be a whole number in [1, 10000], got {count}")
    _check_seed(int(first) + int(count) - 1)
    return [int(first) + k for k in range(int(count))]


def _is_whole(number: Any) -> bool:
    return isinstance(number, Integral) and not isinstance(number, bool)
