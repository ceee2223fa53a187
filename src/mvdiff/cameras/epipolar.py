"""Where a pixel's ray passes in other views: near views, samples along rays, epipolar lines."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .camera import Cameras

#: A ray that misses the object's sphere, or only grazes it, is sampled on a stretch of this half
#: length around its point nearest to the origin, in radii of the sphere.
GRAZE = 0.1

#: Pixels per world unit below which a ray is seen end-on: as a point, not as a line.
END_ON = 1e-2


def directions(cameras: Cameras) -> Float[Tensor, "view 3"]:
    """Unit vectors from the origin to where each camera looks from.

    To the camera's center; orthographic cameras, which have none, and cameras at the origin look
    from the side they turn their back to.
    """
    back = -cameras.R[:, 2]
    if cameras.projection == "orthographic":
        return back
    distance = cameras.centers.norm(dim=-1, keepdim=True)
    return torch.where(distance > 1e-6, cameras.centers / distance.clamp(min=1e-6), back)


def nearest_views(cameras: Cameras, count: int) -> Int[Tensor, "view near"]:
    """The `count` other cameras at the smallest angle as seen from the origin, nearest first.

    All others where there are fewer. Of two at one angle comes first the one that lies
    counter-clockwise (seen from +z), then the higher one: so the choice depends on where the
    cameras are, not on their order in the set.
    """
    u = directions(cameras).cpu().double()
    cross = torch.linalg.cross(u[:, None].expand(-1, len(u), 3), u.expand(len(u), -1, 3))
    angle = torch.atan2(cross.norm(dim=-1), u @ u.T)
    # far below any angle that tells cameras apart, far above the rounding of equal ones
    score = angle - 1e-5 * cross[..., 2] - 1e-6 * u[:, 2]
    score.fill_diagonal_(torch.inf)
    count = max(0, min(count, len(u) - 1))
    return score.argsort(dim=1)[:, :count].to(cameras.w2c.device)


def ray_samples(
    cameras: Cameras, count: int, radius: float, offset: float = 0.5
) -> tuple[Float[Tensor, "view height width sample 3"], Float[Tensor, "view height width sample"]]:
    """`count` world points on every pixel's ray inside the sphere around the origin.

    They are the middles of `count` equal pieces of the ray's stretch inside the sphere; a ray
    that misses it is sampled close to its point nearest to the origin (see GRAZE). Perspective
    rays start at the camera, also where it stands inside the sphere; the samples of a ray that
    leaves the sphere behind its camera all lie at the camera.
    Also returned: where on the ray a point lies, in radii beyond the point nearest to the origin.
    """
    origins, along = cameras.rays(offset)
    middle = -(origins * along).sum(dim=-1)
    apart = (origins + along * middle[..., None]).square().sum(dim=-1)
    half = (radius**2 - apart).clamp(min=(GRAZE * radius) ** 2).sqrt()
    near, far = middle - half, middle + half
    if cameras.projection == "perspective":
        near, far = near.clamp(min=0), far.clamp(min=0)
    steps = (torch.arange(count, dtype=near.dtype, device=near.device) + 0.5) / count
    reach = near[..., None] + (far - near)[..., None] * steps
    points = origins[..., None, :] + along[..., None, :] * reach[..., None]
    return points, (reach - middle[..., None]) / radius


def into_views(
    cameras: Cameras,
    points: Float[Tensor, "view *points 3"],
    others: Int[Tensor, "view other"],
) -> tuple[
    Float[Tensor, "view other *points 2"],
    Float[Tensor, "view other *points"],
    Bool[Tensor, "view other *points"],
]:
    """Each view's points projected into the views chosen for it.

    Returned: pixel coordinates, depths, and whether a point is seen: in the image, in front of
    the camera, and in front of its own view's camera (orthographic cameras have no behind).
    """
    pairs = [cameras[chosen].project(p) for chosen, p in zip(others, points, strict=True)]
    uv, depth = (torch.stack(part) for part in zip(*pairs, strict=True))
    size = uv.new_tensor([cameras.width, cameras.height])
    seen = ((uv >= 0) & (uv <= size)).all(dim=-1)
    if cameras.projection == "perspective":
        own = [cameras[i].project(p)[1][0] for i, p in enumerate(points)]
        seen = seen & (depth > 0) & (torch.stack(own) > 0)[:, None]
    return uv, depth, seen


def corners(
    uv: Float[Tensor, "*points 2"], height: int, width: int
) -> tuple[Int[Tensor, "*points 4"], Float[Tensor, "*points 4"]]:
    """Bilinear interpolation as a weighted sum of four pixels: their numbers and weights.

    Numbers count row by row. Pixel centers lie at +0.5; beyond the outermost ones the border
    goes on.
    """
    xy = uv - 0.5
    x = xy[..., 0].clamp(0, width - 1)
    y = xy[..., 1].clamp(0, height - 1)
    left, top = x.floor(), y.floor()
    fx, fy = x - left, y - top
    left, top = left.long(), top.long()
    right, bottom = (left + 1).clamp(max=width - 1), (top + 1).clamp(max=height - 1)
    number = [top * width + left, top * width + right, bottom * width + left]
    number.append(bottom * width + right)
    weight = [(1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy]
    return torch.stack(number, dim=-1), torch.stack(weight, dim=-1)


@dataclass(frozen=True)
class EpipolarLines:
    """The image of every pixel's ray in every view.

    line: (a, b, c) with a u + b v + c the signed distance in pixels; the whole straight line,
        also what of it lies behind a camera. Where no line is seen, c is infinite.
    point: its image where the ray is seen end-on (cameras at one place, parallel orthographic
        ones): the pixel of its point nearest to the origin.
    end_on: whether it is.
    """

    line: Float[Tensor, "view height width other 3"]
    point: Float[Tensor, "view height width other 2"]
    end_on: Bool[Tensor, "view height width other"]

    def distance(
        self, view: int, uv: Float[Tensor, "*pixels 2"]
    ) -> Float[Tensor, "height width other *pixels"]:
        """Pixels between `uv` in each view and the image of the rays of view `view`.

        To the line, or to the point where a ray is seen end-on; infinite where the ray has no
        image at all.
        """
        flat = uv.reshape(-1, 2)
        line, end_on = self.line[view], self.end_on[view]
        a, b, c = line.split(1, dim=-1)
        # no matrix product, which autocast would round
        away = torch.addcmul(c, b, flat[:, 1]).addcmul_(a, flat[:, 0]).abs_()
        if end_on.any():
            away[end_on] = (self.point[view][end_on][:, None] - flat).norm(dim=-1)
        return away.reshape(*away.shape[:-1], *uv.shape[:-1])


def epipolar_lines(cameras: Cameras, offset: float = 0.5) -> EpipolarLines:
    """The epipolar lines of every pixel in every view, its own included (always end-on)."""
    origins, along = cameras.rays(offset)
    middle = origins - along * (origins * along).sum(dim=-1, keepdim=True)
    here, there = _homogeneous(cameras, middle), _homogeneous(cameras, middle + along)
    line = torch.linalg.cross(here, there)
    length, z = line[..., :2].norm(dim=-1, keepdim=True), here[..., 2:]
    # length / z² is the speed of the image along the ray
    end_on = length < END_ON * z**2
    unseen = ~end_on & (length <= torch.finfo(line.dtype).tiny)
    line = torch.where(unseen | end_on, 0, line / length)
    line[..., 2:] = line[..., 2:].masked_fill(unseen, torch.inf)
    point = here[..., :2] / torch.where(end_on, z, 1)
    parts = (line, point, end_on[..., 0])
    return EpipolarLines(*(part.movedim(0, 3).contiguous() for part in parts))


def _homogeneous(cameras: Cameras, points: Tensor) -> Tensor:
    """Homogeneous pixel coordinates (other, view, height, width, 3), linear in the points."""
    uv, depth = cameras.project(points)
    if cameras.projection == "orthographic":
        return torch.cat([uv, torch.ones_like(depth)[..., None]], dim=-1)
    # undoing project's division also gives points behind the camera their place on the line
    return torch.cat([uv * depth[..., None], depth[..., None]], dim=-1)
