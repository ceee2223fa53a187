"""MVDream's and ImageDream's checkpoints → the weights of `MultiViewDenoiser`."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import WeightsError
from .key_maps import KeyMapping, KeyTable, mapping_for
from .key_maps.mvdream import IMAGEDREAM, MVDREAM

#: family → our names → the published ones
TABLES: dict[str, KeyTable] = {"mvdream": MVDREAM, "imagedream": IMAGEDREAM}


def mapping_of(family: str) -> Callable[[str], KeyMapping]:
    """Our name → where a parameter lies in a family's files; WeightsError for one they lack."""

    def mapping(name: str) -> KeyMapping:
        try:
            return mapping_for(name, TABLES[family])
        except KeyError as error:
            raise WeightsError(
                f"published weights lack '{name}', which this model needs: use recipe={family} "
                "with its sizes; of its parts, attention, volume, radiance and pose may be swapped"
            ) from error

    return mapping
