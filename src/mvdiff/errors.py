"""Errors that users see as one sentence: what was expected, what came, what to do."""


class MvdiffError(ValueError):
    """Base class. The command line prints the message and exits with code 2."""


class ConfigError(MvdiffError):
    """A setting is unknown, out of range, or does not fit the other settings."""


class InputError(MvdiffError):
    """An input file or array (image, views, cameras, mesh) is missing or unusable."""


class WeightsError(MvdiffError):
    """A weight file or checkpoint is missing, damaged, or does not fit the model."""


class DataError(MvdiffError):
    """A training or evaluation data set is missing, damaged, or does not fit the settings."""


class TrainingError(MvdiffError):
    """Training diverged or cannot continue."""


class ReconstructionError(MvdiffError):
    """No trustworthy mesh can be made from these views."""


class DeviceError(MvdiffError):
    """A device, precision or kernel is not available on this machine."""
