"""The text of OBJ and MTL files: encodings and continued lines."""

from __future__ import annotations


def decode_text(content: bytes) -> str:
    """Text in UTF-8, with or without byte order mark, else in Latin-1."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16", errors="replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def split_lines(text: str) -> list[str]:
    """Lines, joined where one ends in a backslash."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.replace("\\\n", " ").split("\n")
