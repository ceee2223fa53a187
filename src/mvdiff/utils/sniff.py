"""What a file really is, where it is not what its name says."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError


def describe_impostor(path: Path) -> str | None:
    """What came instead of the expected file, with the remedy; None where nothing is recognized.

    Recognized are empty files, Git LFS pointers, web pages, and JSON or XML errors of download
    servers: the usual results of a failed download. Reads at most 512 bytes.
    Raises InputError when the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise InputError(f"cannot read '{path}' ({error.strerror or error})") from error
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not head:
        return "the file is empty: download or copy it again"
    if text.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer: run 'git lfs pull' to fetch the file itself"
    if text.startswith((b"<!doctype html", b"<html", b"<head")):
        return "it is a web page, not the file behind it: download it again, logged in if needed"
    if b'"weight_map"' in text:
        return (
            "it is the index of a checkpoint in several parts: join the parts into one file first"
        )
    if text.startswith((b"{", b"<?xml", b"accessdenied", b"not found")):
        return "it is a text message, perhaps of a failed download: download it again"
    return None
