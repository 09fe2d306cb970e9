"""How images become pixels where a verb has no recipe: as the model's do, else by the range that is given."""

from pathlib import Path

from pangu_cv.errors import SettingsError
from pangu_runtime.decode import DEFAULT_SPEC, DecodeSpec


def given_spec(range_16bit: tuple[int, int] | None) -> DecodeSpec:
    """The decoder of ``--range-16bit``; raises DataError for what is no range."""
    return DEFAULT_SPEC if range_16bit is None else DecodeSpec(range_16bit=range_16bit)


def require_range(
    model: Path, spec: DecodeSpec, range_16bit: tuple[int, int] | None, *, setting: str = "--range-16bit"
) -> None:
    """Raises SettingsError, naming the ``setting``, where another range is given than the model's ``spec`` has."""
    if range_16bit is not None and tuple(range_16bit) != tuple(spec.range_16bit):
        low, high = spec.range_16bit
        raise SettingsError(
            f"{setting}: {range_16bit[0]} to {range_16bit[1]} found, but '{model}' has learnt from images read at "
            f"{low} to {high}, and sees no others; leave {setting} out, or the model"
        )
