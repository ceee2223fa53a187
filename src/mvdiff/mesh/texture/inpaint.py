"""Colors for what no view saw: spread over the surface, and beyond the charts' borders."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int, UInt8

#: Color where no view saw anything.
GREY = 0.7


#: Pull of a well-seen vertex towards its own color, in units of an edge of mean length.
_KEEP = 1000.0


def spread(
    colors: Float[np.ndarray, "vertex 3"],
    seen: Float[np.ndarray, "vertex"],
    vertices: Float[np.ndarray, "vertex 3"],
    faces: Int[np.ndarray, "face 3"],
) -> Float[np.ndarray, "vertex 3"]:
    """Colors of all vertices in [0, 1]; unseen ones continue the seen ones along the surface.

    seen: 1 keeps a vertex' color, 0 makes it the mean of its neighbors', shorter edges
        counting more (a harmonic continuation, one sparse linear system).
    Parts nobody saw take the color of the nearest seen vertex, and all is gray where nothing
    was seen.
    """
    from scipy import sparse
    from scipy.sparse.csgraph import connected_components
    from scipy.sparse.linalg import spsolve
    from scipy.spatial import cKDTree

    n, known = len(vertices), seen > 0
    if not known.any():
        return np.full((n, 3), GREY, np.float32)
    pairs = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    pairs = np.unique(np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1), axis=0)
    length = np.linalg.norm(vertices[pairs[:, 0]] - vertices[pairs[:, 1]], axis=1)
    usual = max(float(length.mean()), 1e-30)
    strength = usual / length.clip(min=0.01 * usual)
    graph = sparse.coo_matrix((strength, pairs.T), shape=(n, n)).tocsr()
    graph = graph + graph.T
    count, part = connected_components(graph, directed=False)
    lost = ~(np.bincount(part, known, minlength=count) > 0)[part]
    own = _KEEP * seen.astype(np.float64) ** 2
    if lost.any():
        nearest = cKDTree(vertices[known]).query(vertices[lost])[1]
        colors = colors.copy()
        colors[lost], own[lost] = colors[known][nearest], _KEEP
    system = sparse.diags(own + np.asarray(graph.sum(axis=1)).ravel()) - graph
    solved = spsolve(system.tocsc(), own[:, None] * colors)
    return solved.clip(0, 1).astype(np.float32)


def dilate(
    image: UInt8[np.ndarray, "height width 3"], filled: np.ndarray
) -> UInt8[np.ndarray, "height width 3"]:
    """Texels outside all charts take the color of the nearest one inside, so that neither
    bilinear lookup nor mip-maps draw dark seams."""
    from scipy import ndimage

    row, column = ndimage.distance_transform_edt(
        ~filled, return_distances=False, return_indices=True
    )
    return image[row, column]
