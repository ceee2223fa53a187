"""Memory that a mapped weight file takes, given back to the system."""

from __future__ import annotations

import ctypes
import mmap
import sys

import torch
from torch import Tensor, nn

#: Linux' MADV_PAGEOUT: what the pages hold stays valid. Pages of a file are read again when they
#: are next used; others stay where they are, or go to swap where there is some.
_PAGEOUT = 21


def release_pages(*parts: nn.Module | Tensor) -> None:
    """Take the pages of tensors and parts out of memory; their numbers stay as they are.

    Nothing happens to tensors that are on a GPU or not contiguous, on other systems than Linux, or
    where the kernel does not want to.
    """
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    tensors = [t for p in parts for t in ([p] if isinstance(p, Tensor) else p.parameters())]
    for tensor in tensors:
        if tensor.device.type != "cpu" or not tensor.is_contiguous():
            continue
        # whole pages only: their neighbors belong to somebody else
        start = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
        end = (tensor.data_ptr() + tensor.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
        if end > start:
            libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _PAGEOUT)


def cast_mapped(tensor: Tensor, like: Tensor) -> Tensor:
    """A tensor of a mapped file in the type and layout of another one, also of one without numbers.

    It is the file's own where it fits; else the file's pages are given back.
    """
    fits = like.is_contiguous() or tensor.stride() == like.stride()
    if tensor.dtype == like.dtype and fits:
        return tensor
    converted = torch.empty_like(like, device=tensor.device).copy_(tensor)
    release_pages(tensor)
    return converted
