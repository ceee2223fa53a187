"""The one error users see as a sentence: what was expected, what came, what to do."""


class MvdiffError(ValueError):
    """Bad input or configuration. The command line prints its message and exits with 2."""
