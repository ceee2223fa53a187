"""The settings of the commands that Python composes, too: generate, reconstruct, train, ablate.

Values of recipes are MISSING here: `conf/recipe/*.yaml` gives them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..utils.limits import (
    NOT_NEGATIVE,
    POSITIVE,
    SEED,
    SHARE,
    SHARE_BELOW_1,
    STEPS,
    Range,
    whole_numbers,
)
from .settings import MISSING, recipe_setting, setting


@dataclass
class RecipeConfig:
    """What every recipe has: its parts, each a config group, and the numbers that they share."""

    rig: Any = MISSING
    latents: Any = MISSING
    embedder: Any = MISSING
    context: Any = MISSING
    volume: Any = MISSING
    attention: Any = MISSING
    pose: Any = MISSING
    radiance: Any = MISSING
    unet: Any = MISSING
    noise: Any = MISSING
    sampler: Any = MISSING
    guidance: Any = MISSING
    sizes: Any = MISSING
    recipe_name: str = ""  # set by composition

    family: str = recipe_setting(
        "whose published files the recipe loads",
        "syncdreamer",
        choices=("syncdreamer", "zero123", "epidiff", "mvdream", "imagedream"),
    )

    size: int = recipe_setting("side of the images, pixels", limit=whole_numbers(8, 4096))
    ddim_steps: int = recipe_setting("steps of sampler=ddim", 50, limit=whole_numbers(1, 10**5))
    place: str = recipe_setting(
        "of the view attention: after (a block), within (before its upsampling), self (in place of "
        "the self-attention), beside (following it), decoupled (parallel to it)",
        "after",
        choices=("after", "within", "self", "beside", "decoupled"),
    )
    faithful: bool = recipe_setting(
        "attention=epidiff: true, views sample their own features, as the released code does; "
        "false, those of the near views, as the paper says",
        False,
    )
    reference: str = recipe_setting(
        "how the input image's latent reaches the UNet: concat (to every noisy view), view (as one "
        "more view), none",
        "concat",
        choices=("concat", "view", "none"),
    )
    input: str = recipe_setting(
        "what the views are made from: image, or text (prompt=…)",
        "image",
        choices=("image", "text"),
    )
    prompt_suffix: str = recipe_setting("added to every prompt", "")
    framing: str = recipe_setting(
        "fit: object_fill; syncdreamer, zero123: crop_size; plain, squash, imagedream: the whole "
        "image",
        "fit",
        choices=("fit", "syncdreamer", "zero123", "plain", "squash", "imagedream"),
    )
    crop_size: int | None = recipe_setting(
        "longer side of the object, pixels; -1: whole picture",
        None,
        limit=whole_numbers(-1, 4096),
    )
    object_fill: float = recipe_setting(
        "longer side of the object / side of the prepared image",
        limit=Range(0, 1, above_low=True),
    )


@dataclass
class AugmentConfig:
    """Changes of the training data, the same for all views of an object unless said otherwise."""

    roll: bool = recipe_setting("start the ring of views at a random view")
    mirror: float = recipe_setting("probability of mirroring an object", limit=SHARE)
    color_prob: float = recipe_setting("probability of changing its colors", limit=SHARE)
    hue: float = recipe_setting("largest turn of the hue, degrees", limit=Range(0, 180))
    saturation: float = recipe_setting("largest factor of the saturation", limit=Range(1, 100))
    gain: float = recipe_setting("largest factor of the brightness", limit=Range(1, 100))
    gamma: float = recipe_setting("largest exponent", limit=Range(1, 100))
    channel_shuffle_prob: float = recipe_setting(
        "probability of shuffling the color channels", limit=SHARE
    )
    shift: float = recipe_setting("largest shift of the input image / its side", limit=SHARE)
    scale: float = recipe_setting("largest change of the object's size", limit=SHARE_BELOW_1)
    degrade_prob: float = recipe_setting(
        "probability of degrading the input image: imprecise mask, blur, JPEG artifacts",
        limit=SHARE,
    )
    mask_jitter: float = recipe_setting(
        "largest offset of the mask's edge, pixels", 1.0, limit=SHARE
    )
    blur_sigma: float = recipe_setting("largest sigma of the blur, pixels", 0.8, limit=NOT_NEGATIVE)
    jpeg_quality: int = recipe_setting("lowest JPEG quality", 40, limit=whole_numbers(1, 95))


@dataclass
class OptimizationConfig:
    """The section `train` of a recipe."""

    groups: list[Any] = recipe_setting(
        "trained parameters, {match: prefix, lr: …, weight_decay: …} each; []: all",
    )
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    posterior: str = recipe_setting(
        "latents of the VAE: a sample of the posterior, or its mean",
        choices=("sample", "mean"),
    )
    steps: int = recipe_setting("optimizer steps", limit=STEPS)
    batch_size: int = recipe_setting(
        "objects per step, over all processes", limit=whole_numbers(1, 65536)
    )
    views: int = recipe_setting("target views per object and step", limit=whole_numbers(1, 4096))
    volume_views: list[int] | None = recipe_setting(
        "[fewest,most] noisy views in the volume, drawn per step; null: all",
        None,
        limit=whole_numbers(1, 4096),
    )
    num_input_images: list[int] = recipe_setting(
        "numbers of input images per object, one of them drawn per step",
        limit=whole_numbers(1, 64),
    )
    timestep_bias: float = recipe_setting(
        "above 1: more steps at high noise; 1: all noise levels alike",
        limit=Range(0, 100, above_low=True),
    )
    scheduled_sampling: float = recipe_setting(
        "share of steps that start from the model's own prediction, as in sampling",
        limit=SHARE,
    )
    rendering_weight: float = recipe_setting(
        "weight of the rendering loss (radiance=voxels)", limit=NOT_NEGATIVE
    )
    opacity_entropy: float = recipe_setting(
        "weight of half-transparent pixels in the rendering (radiance=voxels)", limit=NOT_NEGATIVE
    )
    condition_dropout: dict[str, float] = recipe_setting(
        "probabilities of dropping the condition, for guidance", limit=SHARE
    )
    optimizer: str = recipe_setting("adamw or muon", choices=("adamw", "muon"))
    lr: float = recipe_setting(
        "learning rate (of groups without one)", limit=Range(0, 10**10, above_low=True)
    )
    warmup: int = recipe_setting("warm-up steps", limit=whole_numbers(0, 10**9))
    schedule: str = recipe_setting("of the learning rate", choices=("constant", "cosine"))
    weight_decay: float = recipe_setting("of groups without one", limit=NOT_NEGATIVE)
    betas: list[float] = recipe_setting("AdamW's", limit=SHARE_BELOW_1)
    grad_clip: float | None = recipe_setting(
        "largest gradient norm; null: no limit", None, limit=POSITIVE
    )
    ema_decay: float = recipe_setting("decay of the weight average; 0: none", limit=SHARE_BELOW_1)
    precision: str = recipe_setting(
        "autocast (weights and moments stay fp32)",
        choices=("auto", "fp32", "bf16", "fp16"),
    )


@dataclass
class GenerateConfig(RecipeConfig):
    """`mvdiff generate`."""

    defaults: list[Any] = field(
        default_factory=lambda: [
            {"recipe": "tiny"},
            {"segmentation": "auto"},
            {"reconstructor": "hull"},
            "_self_",
        ]
    )
    segmentation: Any = MISSING
    reconstructor: Any = MISSING
    train: OptimizationConfig = field(default_factory=OptimizationConfig)

    image: Any = setting(
        MISSING, "an image, a list [a.png,b.png], or a folder of images", path="image"
    )
    prompt: Any = setting(
        None, "a text: what to generate (recipe=mvdream; also a list), or what the image shows"
    )
    tokenizer: str | None = setting(
        None,
        "CLIP's tokenizer, a folder with vocab.json and merges.txt, for prompts that the weights "
        "hold no embedding of",
        path="tokenizer",
    )
    elevation: Any = setting(
        "auto",
        "camera elevation of the input image, degrees above the horizon: a number, a list, auto "
        "(estimated), name (cup-30.png), or a table (.csv, .json)",
    )
    azimuth: Any = setting(
        None, "for several images of ONE object: azimuth of each, degrees, e.g. [0,90]"
    )
    samples: int = setting(
        1,
        "number of samples per image, best first (with 3 or more: closest to the sample mean)",
        limit=whole_numbers(1, 10**6),
    )
    seed: int = setting(0, "random seed of the first sample; sample k uses seed + k", limit=SEED)
    out: str = setting("outputs", "results go to <out>/<image>/sample-<k>/", path="output")
    resume: bool = setting(True, "skip samples that already exist with the same settings")
    batch_size: int | None = setting(
        None,
        "images and samples denoised together; null: 1, on CUDA 4",
        limit=whole_numbers(1, 4096),
    )
    shard: str | None = setting(None, "process shard i of n, e.g. 0/4 (for job arrays)")
    jobs: int | None = setting(
        None,
        "number of parallel jobs, started by the Hydra launcher (hydra/launcher=…)",
        limit=whole_numbers(1, 10**5),
    )
    batch_views: int | None = setting(
        None,
        "views per call of the UNet (less memory, same result)",
        limit=whole_numbers(1, 4096),
    )
    texture_size: Any = setting(
        None,
        "texture resolution in texels, or none for vertex colors; null: 1024",
        limit=whole_numbers(16, 16384),
    )
    turntable: bool = setting(True, "also write a turntable video")
    turntable_format: str = setting(
        "gif", "turntable format: gif, or mp4 (needs the extra video)", choices=("gif", "mp4")
    )
    device: str = setting("auto", "auto, cpu, cuda, cuda:1, …")
    precision: str = setting(
        "fp32",
        "fp32, bf16, fp16 (GPU only), or auto: bf16 where the hardware has it",
        choices=("fp32", "bf16", "fp16", "auto"),
    )
    compile: str | None = setting(
        None,
        "mode of torch.compile: default, reduce-overhead, max-autotune (slow on a CPU)",
    )
    weights: str | None = recipe_setting(
        "a weight file; embedded: those in this package", None, path="weights"
    )
    clip: str | None = recipe_setting(
        "CLIP's ViT-L-14.pt, to replace the weights' image tower", None, path="weights"
    )
    base: str | None = setting(
        None,
        "recipe=epidiff: Zero123's file or diffusers folder, for parts that the weights lack",
        path="base model",
    )
    plugins: list[str] = setting([], "packages that register further variants")


@dataclass
class ReconstructConfig:
    """`mvdiff reconstruct`."""

    defaults: list[Any] = field(
        default_factory=lambda: [{"reconstructor": "hull"}, {"rig": None}, "_self_"]
    )
    reconstructor: Any = MISSING
    rig: Any = MISSING

    views: Any = setting(
        MISSING,
        "a folder with transforms.json, meta.pkl or a COLMAP model; with rig=, images alone",
        path="views",
    )
    images: str | None = setting(
        None, "folder of the images; null: where the camera file says", path="output"
    )
    out: str | None = setting(
        None, "folder of the results; null: the folder of the views", path="output"
    )
    mesh_formats: list[str] = setting(
        ["glb"], "glb, obj, ply, stl, or several: glb,obj", choices=("glb", "obj", "ply", "stl")
    )
    texture_size: Any = setting(
        None,
        "texture resolution in texels, or none for vertex colors; null: 1024 for glb and obj",
        limit=whole_numbers(16, 16384),
    )
    max_faces: int | None = setting(
        None,
        "largest number of triangles; null: 20000 with a texture",
        limit=whole_numbers(4, 10**8),
    )
    watertight: bool = setting(False, "close holes that the reconstructor left")
    max_size: int = setting(
        1024,
        "views with a longer side are scaled down to it, pixels",
        limit=whole_numbers(16, 16384),
    )
    min_agreement: float = setting(
        0.6,
        "reject meshes whose silhouettes overlap less with the views' (mean IoU); 0: never",
        limit=SHARE,
    )
    turntable: bool = setting(True, "also write a turntable video")
    turntable_format: str = setting(
        "gif", "turntable format: gif, or mp4 (needs the extra video)", choices=("gif", "mp4")
    )
    plugins: list[str] = setting([], "packages that register further variants")


@dataclass
class TrainConfig(RecipeConfig):
    """`mvdiff train`."""

    defaults: list[Any] = field(default_factory=lambda: [{"recipe": "tiny"}, "_self_"])
    train: OptimizationConfig = field(default_factory=OptimizationConfig)

    data: Any = setting(
        MISSING,
        "a folder written by `mvdiff render`, or in SyncDreamer's layout (target/, input/, "
        "uid_set.pkl)",
        path="data",
    )
    val_data: Any = setting(
        None, "validation data; null: the validation split of data", path="data"
    )
    weights: str | None = setting(
        None,
        "initial weights: zero123.safetensors (mvdiff convert) or this recipe's; null: random",
        path="weights",
    )
    out: str = setting("runs/train", "checkpoints, logs, validation images", path="output")
    seed: int = setting(0, "random seed", limit=SEED)
    device: str = setting(
        "auto",
        "auto, cpu, cuda; several: accelerate launch --num_processes 8 -m mvdiff train …",
    )
    resume: str = setting(
        "auto", "auto (from the newest checkpoint in out), never, or a checkpoint's path"
    )
    max_minutes: float | None = setting(
        None, "minutes after which training stops with a checkpoint", limit=POSITIVE
    )
    latent_cache: str = setting(
        "auto",
        "cache of frozen VAE and CLIP outputs: auto (inside data), a folder, or none",
        path="output",
    )
    latent_cache_dtype: str = setting(
        "fp32",
        "fp32 (1.1 MB per object at 256²), or fp16 for half the disk",
        choices=("fp32", "fp16"),
    )
    activation_checkpointing: bool = setting(
        False, "recompute activations in the backward pass: less memory, slower"
    )
    gradient_accumulation: int = setting(
        1, "gradient accumulation steps", limit=whole_numbers(1, 10**6)
    )
    log_every: int = setting(20, "steps", limit=STEPS)
    checkpoint_every: int = setting(500, "steps", limit=STEPS)
    validate_every: int = setting(500, "steps; 0: never", limit=whole_numbers(0, 10**9))
    validate_objects: int = setting(
        8, "held-out objects per validation", limit=whole_numbers(1, 10**6)
    )
    tensorboard: bool | None = setting(
        None, "true, false; null: when the package is installed (extra train)"
    )
    source_weights: dict[str, float] | None = setting(
        None,
        "weights of the sources, e.g. {mesh: 0.7, shape: 0.3}; null: all objects alike",
        limit=NOT_NEGATIVE,
    )
    plugins: list[str] = setting([], "packages that register further variants")


@dataclass
class BudgetConfig:
    """How long a run of a sweep trains: one of the three."""

    steps: int | None = setting(None, "optimizer steps per run", limit=STEPS)
    seconds: float | None = setting(
        None,
        "wall-clock seconds per run; steps are timed first, so that the schedule fits",
        limit=POSITIVE,
    )
    cpu_seconds: float | None = setting(
        None, "CPU seconds per run, for machines with other users", limit=POSITIVE
    )


@dataclass
class AblateConfig(TrainConfig):
    """`mvdiff ablate`."""

    defaults: list[Any] = field(default_factory=lambda: [{"recipe": "tiny"}, "_self_"])
    out: str = setting(
        "ablations/first",
        "runs, results.json, table.md, plots and a contact sheet",
        path="output",
    )
    seeds: list[int] = setting(
        [0, 1],
        "each variant is trained once with each: seeds=0,1,2",
        limit=Range(0, 2**31, below_high=True, whole=True),
    )
    variants: Any = setting(
        None,
        "named combinations: {full: {}, alone: {attention: none, volume: none}}, or a YAML file",
    )
    report: str | None = setting(
        None, "write the report of this folder's runs again, without training", path="output"
    )
    objects: int = setting(
        16, "held-out objects that every run is scored on", limit=whole_numbers(1, 10**6)
    )
    samples: int = setting(
        3,
        "samples per object for the diversity, of the first 4 objects; 1: none",
        limit=whole_numbers(1, 10**6),
    )
    lpips: Any = setting(
        None, "LPIPS-VGG weights: a file, or [vgg16.pth, vgg.pth]", path="LPIPS weights"
    )
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    profile_seconds: float = setting(
        10.0, "seconds of timing before a run, not part of its budget", limit=NOT_NEGATIVE
    )
    tensorboard: bool | None = setting(False, "true or false")
    validate_every: int = setting(
        0, "steps; 0: never (runs are scored at their end)", limit=whole_numbers(0, 10**9)
    )


#: command → its settings; `register` adds those of further commands
SCHEMAS: dict[str, type] = {}


def register(command: str, schema: type) -> type:
    """Make a dataclass the settings of a command: `compose(command, …)` finds it by that name."""
    SCHEMAS[command] = schema
    return schema


register("generate", GenerateConfig)
register("reconstruct", ReconstructConfig)
register("train", TrainConfig)
register("ablate", AblateConfig)
