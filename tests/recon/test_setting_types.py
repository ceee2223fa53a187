"""Settings of the wrong type, as a command line can give them, get a sentence."""

from __future__ import annotations

import json
import subprocess
import sys

WRONG = [
    ("hull", {"max_outlier_views": 1.5}),
    ("hull", {"max_outlier_views": "a"}),
    ("hull", {"max_outlier_views": True}),
    ("neus", {"max_outlier_views": 1.5}),
    ("neus", {"color_levels": ["a", "b"]}),
    ("neus", {"color_levels": [16.5]}),
    ("neus", {"color_levels": [True]}),
    ("neus", {"color_levels": 16}),
]
#: In a process of its own: here the tests' type checker would answer first.
CODE = """
import json, sys
from mvdiff.errors import MvdiffError
from mvdiff.recon import Hull, Neus
for name, settings in json.loads(sys.argv[1]):
    try:
        {"hull": Hull, "neus": Neus}[name](**settings)
        print("taken")
    except MvdiffError as error:
        print(error)
"""


def test_settings_of_the_wrong_type_are_named():
    command = [sys.executable, "-c", CODE, json.dumps(WRONG)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    lines = done.stdout.splitlines()
    assert len(lines) == len(WRONG), done.stderr
    for (name, settings), sentence in zip(WRONG, lines, strict=True):
        assert sentence.startswith(f"{name}: {next(iter(settings))}"), sentence
