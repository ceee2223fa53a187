"""Blending: the colors of surface points from all views that see them.

A view counts by how squarely it faces the point, how far from silhouettes and depth edges it
sees it, and how well it agrees with the others; a ray tells whether it sees the point at all.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
import trimesh
from jaxtyping import Float, Int
from torch import Tensor

from ...rendering import Raycaster
from ...rendering.tracers import build_tracer
from ...silhouettes.matting import object_mask
from ...views import Views

#: Points times views taken at once; bounds the memory.
_CHUNK = 1 << 21
#: A point is hidden when a ray towards it ends this share of the mesh's size before it.
_SLACK = 0.004
#: Neighboring pixels whose depths differ by this share of the mesh's size lie on two surfaces.
_CLIFF = 0.03
#: A color this far (root mean square, of 1) from the views' common one counts a quarter.
_DISSENT = 0.2
#: Views whose colors spread more than this (root mean square, of 1) differ.
_DISPUTE = 0.04
#: Cosine below which a view grazes the surface and is not asked.
_GRAZING = 0.02
#: Cosine from which a view has a full vote on the common color.
_VOTES = 0.3


class ViewBlend:
    """Colors of any points on one mesh, from views of it.

    power: of the cosine between normal and direction to the camera. Large takes the most
        frontal view nearly alone, which is sharp and may show where views meet; small
        averages, which is smooth and may blur.
    border: pixels from a silhouette or depth edge over which a view's weight grows from next
        to nothing to full: soft borders mix in what lies behind.
    """

    def __init__(
        self,
        views: Views,
        vertices: Float[np.ndarray, "vertex 3"],
        faces: Int[np.ndarray, "face 3"],
        *,
        power: float,
        border: float,
    ) -> None:
        self.cameras = views.cameras.to("cpu", torch.float64)
        self.power, self.size = power, float(np.ptp(vertices, axis=0).max())
        self._corners = np.asarray(vertices, np.float64)[faces]
        self._trace = build_tracer(self._corners)
        mask = object_mask(views)
        shape = trimesh.Trimesh(vertices, faces, process=False)
        depth = Raycaster(shape).render(views.cameras, shading=None).depth.numpy()
        safe = [
            _safe(opacity, z, _CLIFF * self.size, border)
            for opacity, z in zip(mask[:, 0].numpy(), depth, strict=True)
        ]
        # Weighted by alpha, so that the color of clear pixels, which means nothing, stays out.
        rgb = views.images.float() / 255 * mask
        self._source = torch.cat([rgb, mask, torch.from_numpy(np.stack(safe))[:, None]], dim=1)

    def __call__(
        self, points: Float[np.ndarray, "point 3"], normals: Float[np.ndarray, "point 3"]
    ) -> tuple[Float[np.ndarray, "point 3"], Float[np.ndarray, "point"]]:
        """Colors (sRGB, in [0, 1]) of points with unit normals, and how well each was seen.

        0 is not at all (the color then means nothing), 1 by a view straight in front.
        """
        step = max(1, _CHUNK // len(self.cameras))
        parts = [
            self._blend(points[i : i + step], normals[i : i + step])
            for i in range(0, len(points), step)
        ]
        color, seen = zip(*parts, strict=True)
        return np.concatenate(color), np.concatenate(seen)

    def _blend(self, points: np.ndarray, normals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        uv, _ = self.cameras.project(torch.from_numpy(points))
        grid = uv / uv.new_tensor([self.cameras.width, self.cameras.height]) * 2 - 1
        value = torch.nn.functional.grid_sample(
            self._source, grid[:, None].float(), padding_mode="zeros", align_corners=False
        )[:, :, 0]
        opacity = value[:, 3]
        color = value[:, :3] / opacity.clamp(min=1e-4)[:, None]
        facing = self._facing(points, normals, (opacity > 0.05).numpy())
        weight = facing * opacity * (value[:, 4] + 1e-3)
        seen = weight.amax(dim=0)
        # Votes are nearly alike: the most frontal view may be the wrong one.
        vote = weight / facing.clamp(min=_VOTES)
        weight = weight * facing.clamp(min=1e-6) ** (self.power - 1) * _agreement(color, vote)
        mixed = (color * weight[:, None]).sum(dim=0) / weight.sum(dim=0).clamp(min=1e-30)
        return mixed.T.numpy(), seen.numpy()

    def _facing(
        self, points: np.ndarray, normals: np.ndarray, inside: np.ndarray
    ) -> Float[Tensor, "view point"]:
        """Cosine between normal and direction to each camera; 0 where something is between.

        inside: (view, point), false where a view shows background and need not be asked.
        """
        out = np.zeros((len(self.cameras), len(points)), np.float32)
        forward, centers = self.cameras.R[:, 2].numpy(), self.cameras.centers.numpy()
        for i in range(len(self.cameras)):
            if self.cameras.projection == "orthographic":
                way = np.broadcast_to(forward[i], points.shape)
                start = points - 2 * self.size * way
            else:
                way = points - centers[i]
                way = way / np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 1e-12)
                start = np.broadcast_to(centers[i], points.shape)
            cosine = -np.einsum("pi,pi->p", way, normals)
            asked = np.flatnonzero((cosine > _GRAZING) & inside[i] & (way @ forward[i] > 0))
            point, way, start = points[asked], way[asked], start[asked]
            face, b, c = self._trace(start, way)
            corner, b, c = self._corners[face], b[:, None], c[:, None]
            met = (1 - b - c) * corner[:, 0] + b * corner[:, 1] + c * corner[:, 2]
            before = np.einsum("pi,pi->p", point - met, way)
            clear = (face < 0) | (before < _SLACK * self.size)
            out[i, asked[clear]] = cosine[asked[clear]]
        return torch.from_numpy(out)


def _safe(
    opacity: Float[np.ndarray, "height width"],
    depth: Float[np.ndarray, "height width"],
    cliff: float,
    border: float,
) -> Float[np.ndarray, "height width"]:
    """0 at silhouettes and depth edges, growing to 1 at a distance of `border` pixels.

    Nothing is known beyond the picture's own border, so that is no edge.
    """
    edge = (opacity <= 0.5) | (depth <= 0)
    down, right = (np.abs(np.diff(depth, axis=axis)) > cliff for axis in (0, 1))
    edge[1:] |= down
    edge[:-1] |= down
    edge[:, 1:] |= right
    edge[:, :-1] |= right
    if not edge.any():
        return np.ones_like(opacity)
    away = cv2.distanceTransform((~edge).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return (away / max(border, 1e-3)).clip(0, 1).astype(np.float32)


def _agreement(
    color: Float[Tensor, "view 3 point"], weight: Float[Tensor, "view point"]
) -> Float[Tensor, "view point"]:
    """How far each view agrees with the common color, in (0, 1].

    Where views differ, the common color is their weighted median, and Geman and McClure's
    weights around it ("Statistical methods for tomographic image reconstruction", 1987) say how
    far each agrees; elsewhere their mean will do, which is quicker. The scale is twice the
    median distance where that is large: one wrong view is shut out, but where all differ all
    are heard, or patches would show.
    """
    total = weight.sum(dim=0).clamp(min=1e-30)
    middle = (color * weight[:, None]).sum(dim=0) / total
    spread = ((color - middle).square().mean(dim=1) * weight).sum(dim=0) / total
    torn = (spread > _DISPUTE**2).nonzero()[:, 0]
    if len(torn):
        middle[:, torn] = _median(color[..., torn], weight[:, torn])
    distance = (color - middle).square().mean(dim=1)
    scale = torch.full_like(total, _DISSENT**2)
    if len(torn):
        usual = _median(distance[:, None, torn], weight[:, torn])[0]
        scale[torn] = torch.maximum(scale[torn], 4 * usual)
    return (1 + distance / scale) ** -2


def _median(
    values: Float[Tensor, "view channel point"], weight: Float[Tensor, "view point"]
) -> Float[Tensor, "channel point"]:
    """The weighted median over the views, channel by channel."""
    value, order = values.sort(dim=0)
    reached = weight[:, None].expand_as(values).gather(0, order).cumsum(dim=0)
    half = (reached >= reached[-1:] / 2).byte().argmax(dim=0, keepdim=True)
    return value.gather(0, half)[0]
