"""Elevations as users give them: a number, one per picture, a table, the file names, or auto."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import ConfigError, MvdiffError
from ..utils.files import load_json
from .image_io import user_path

#: The number that ends a file's name: cup-30, cup_-12.5, cup-+5.
_NUMBER_AT_THE_END = re.compile(r"(?:^|[-_ ])([+-]?\d+(?:\.\d+)?)$")
_TABLES = (".csv", ".tsv", ".json")


def is_auto(value: Any) -> bool:
    """Whether the elevation is left to the network."""
    return value is None or (isinstance(value, str) and value == "auto")


def check_elevation(elevation: Any) -> float:
    """The elevation as a float; ConfigError unless it is a number in [-90, 90]."""
    try:
        value = float("nan") if isinstance(elevation, bool) else float(elevation)
    except (TypeError, ValueError, OverflowError):
        value = float("nan")
    if not -90 <= value <= 90:
        raise ConfigError(
            f"elevation must be a number of degrees in [-90, 90], or auto, got {elevation}: 0 is "
            "level with the object, 90 straight above"
        )
    return value


def elevation_per_picture(value: Any, pictures: Sequence[Path]) -> list[float | str]:
    """Degrees, or "auto", for every picture.

    value: a number or "auto" for all; a list, one per picture; "name": the number at the end of
        each file's name (cup-30.png); or the path of a table (.csv with the columns name and
        elevation, or .json of {name: elevation}) whose names are the pictures' with or without
        suffix.
    Raises ConfigError for anything else, and for pictures that have no elevation then.
    """
    if isinstance(value, str) and value == "name":
        return [_by_name(picture) for picture in pictures]
    if isinstance(value, str) and value.lower().endswith(_TABLES):
        table = _read_table(user_path(value))
        return [_by_table(picture, table, value) for picture in pictures]
    several = isinstance(value, Sequence) and not isinstance(value, str)
    values = list(value) if several else [value] * len(pictures)
    if len(values) != len(pictures):
        raise ConfigError(
            "give one elevation for all pictures or one each: got "
            f"{len(values)} for {len(pictures)}"
        )
    return ["auto" if is_auto(v) else check_elevation(v) for v in values]


def _by_name(picture: Path) -> float:
    found = _NUMBER_AT_THE_END.search(picture.stem)
    if found is None:
        raise ConfigError(
            f"elevation=name needs a number at the end of every file's name, as in cup-30.png, "
            f"got '{picture.name}'"
        )
    return check_elevation(found[1])


def _by_table(picture: Path, table: Mapping[str, Any], source: str) -> float | str:
    for name in (picture.name, picture.stem):
        if name in table:
            value = table[name]
            return "auto" if is_auto(value) else _check_row(value, name, source)
    raise ConfigError(f"the table '{source}' has no elevation for '{picture.name}': add a row")


def _check_row(value: Any, name: str, source: str) -> float:
    try:
        return check_elevation(value)
    except MvdiffError as error:
        raise ConfigError(f"'{source}', '{name}': {error}") from error


def _read_table(path: Path) -> dict[str, Any]:
    """name → elevation, from CSV or JSON."""
    if path.suffix.lower() == ".json":
        return load_json(path, dict)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"cannot read the table '{path}' ({error.strerror})") from error
    except ValueError as error:
        raise ConfigError(f"the table '{path}' is not UTF-8 text: save it as UTF-8") from error
    first_line = text.partition("\n")[0]
    separator = next((s for s in "\t;" if s in first_line), ",")
    try:
        rows = [row for row in csv.reader(io.StringIO(text), delimiter=separator) if any(row)]
    except csv.Error as error:
        raise ConfigError(f"the table '{path}' is not valid CSV ({error})") from error
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    if not {"name", "elevation"} <= set(header):
        raise ConfigError(
            f"the table '{path}' needs the columns name and elevation in its first line, got "
            f"'{first_line.strip()[:60]}'"
        )
    name, elevation = header.index("name"), header.index("elevation")
    table = {}
    for number, row in enumerate(rows[1:], 2):
        if len(row) <= max(name, elevation):
            raise ConfigError(f"the table '{path}' has no elevation in row {number}")
        table[row[name].strip()] = row[elevation].strip()
    return table
