"""`mvdiff generate`: images → views → meshes.

Planning and the search for finished samples import neither torch nor diffusers, so that errors
and finished objects are reported at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from ..config.schema import GenerateConfig
from .command import Command, Job, exit_code


def run(config: GenerateConfig) -> int:
    """All images; 1 when some failed or have no mesh, and 2 when all failed."""
    from ..generation.planning import plan_objects
    from ..generation.run import run_plans
    from ..generation.sharding import Shard

    plans, shard = plan_objects(config), Shard.parse(config.shard)
    alone = len(plans) == 1
    summary = run_plans(config, plans[shard.index :: shard.count], report_errors=not alone)
    counts = shard.all_reduce_sum([len(summary.errors), summary.meshless, summary.pictures])
    if alone and summary.errors:
        raise summary.errors[0]
    return exit_code(*counts)


def read(overrides: Sequence[str]) -> tuple[Any, Job]:
    """One process; with `jobs=N` or Hydra's launcher settings, N jobs."""
    from ..config.compose import compose
    from ..config.launcher import split_hydra_overrides

    hydra, words = split_hydra_overrides(overrides)
    config = compose("generate", words)
    if not hydra and config.jobs is None:
        return config, partial(run, config)

    def run_all() -> int:
        from .generate_sharded import ShardedRun, run_sharded

        return run_sharded(ShardedRun(config, words, hydra))

    return config, run_all


COMMAND = Command(
    name="generate",
    summary="one picture → views from all around → a mesh",
    description="One picture of an object → consistent views from all around → a mesh.",
    config=GenerateConfig,
    run=run,
    read=read,
    examples=(
        "mvdiff generate image=photo.png elevation=20",
        "mvdiff generate image=photos/ samples=4 seed=7 out=results",
        "mvdiff generate image=[front.png,side.png] azimuth=[0,90] elevation=[10,30]",
        "mvdiff generate image=photos/ shard=0/4               (one job of four; each has its own)",
        "mvdiff generate image=photos/ jobs=4 hydra/launcher=joblib hydra.launcher.n_jobs=4",
        "mvdiff generate image=photos/ jobs=8 hydra/launcher=submitit_slurm "
        "hydra.launcher.gpus_per_node=1",
        "mvdiff generate image=photo.png attention=none sampler=dpmpp sampler.steps=20",
        "mvdiff generate recipe=syncdreamer weights=syncdreamer-pretrain.ckpt image=photo.png "
        "elevation=30",
    ),
)
