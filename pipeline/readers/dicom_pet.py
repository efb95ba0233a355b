"""What a PET header says of standardised uptake: one factor, so that nothing else goes further.

References
----------
QIBA, Vendor-neutral pseudo-code for SUV calculation, its robust version; DICOM PS3.3 C.8.9.1.1.5
(DecayCorrection: ADMIN), C.8.9.4.1.5 (the time of the average count rate in a frame).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.types import Uptake

if TYPE_CHECKING:
    from pydicom import Dataset

T = TypeVar("T")

_GE, _PHILIPS = (0x0009, "GEMS_PETD_01"), (0x7053, "Philips PET Private Group")
_SCANNED, _PER_COUNT, _ACTIVITY = 0x0D, 0x00, 0x09  # elements of their blocks

ELEMENTS: tuple[str | int, ...] = (
    *("PatientWeight", "CorrectedImage", "DecayCorrection", "SUVType"),
    *("SeriesDate", "SeriesTime", "AcquisitionDate", "AcquisitionTime", "TimezoneOffsetFromUTC"),
    *("FrameReferenceTime", "ActualFrameDuration", "RadiopharmaceuticalInformationSequence"),
    *(0x00090010, 0x0009100D, 0x70530010, 0x70531000, 0x70531009),
)
"""What is read for it: keywords, and tags of private elements with those of their creators."""

_PLAUSIBLE = {
    "PatientWeight": ("a weight in kg", 1e-3, 1e3),
    "RadionuclideTotalDose": ("a dose in Bq", 1e5, 1e12),  # below it is one in MBq
    "RadionuclideHalfLife": ("a half-life in s", 1.0, 1e10),
}
_OLDEST = 10  # half-lives: after these a thousandth is left, or a date is wrong
_ALIKE = 1e-3  # factors of slices, relative: times are often rounded to seconds


class _LackingError(Exception):
    """Why there is no factor, naming keywords and never their values."""


def uptake_of(header: Dataset, unit: str | None) -> Uptake:
    """The factor of a PET image whose values have this unit; never raises for what a header holds.

    BQML takes weight, dose, half-life and times; CNTS a private factor of Philips; GML is uptake.
    """
    try:
        return Uptake(unit, _factor(header, unit))
    except _LackingError as error:
        return Uptake(unit, None, str(error))


def uptake_of_slices(slices: Sequence[Uptake | None]) -> Uptake | None:
    """The factor of a volume: its first slice's, if all slices agree."""
    known = [one for one in slices if one is not None]
    if len(known) < len(slices):
        return None
    first, factors = known[0], [one.factor for one in known if one.factor is not None]
    if len(factors) < len(known):
        return next(one for one in known if one.factor is None)
    if len({one.unit for one in known}) > 1:
        return Uptake(None, None, "Units differs between slices")
    if max(factors) > min(factors) * (1 + _ALIKE):
        return Uptake(first.unit, None, "weight, dose, half-life or times differ between slices")
    return first


def _factor(header: Dataset, unit: str | None) -> float:
    if not {"ATTN", "DECY"} <= set(_value(header, "CorrectedImage", _words) or ()):
        message = "CorrectedImage does not name both ATTN and DECY"
        raise _LackingError(message)
    if _value(header, "DecayCorrection", str) not in ("START", "ADMIN"):
        message = "DecayCorrection is neither START nor ADMIN"
        raise _LackingError(message)
    if unit == "BQML":
        return _per_activity(header)
    if unit == "CNTS":
        return _per_count(header)
    if unit != "GML":
        message = "Units is none of BQML, GML and CNTS"
        raise _LackingError(message)
    if _value(header, "SUVType", lambda word: word or "BW") != "BW":
        message = "SUVType is not BW, body weight"
        raise _LackingError(message)
    return 1.0


def _per_count(header: Dataset) -> float:
    """Of Philips' counts: g/ml, or Bq/ml, of each count is in elements of their own."""
    uptake, activity = (
        _private(header, *_PHILIPS, n, float) or 0.0 for n in (_PER_COUNT, _ACTIVITY)
    )
    if 0 < uptake < math.inf:
        return uptake
    if 0 < activity < math.inf:
        return activity * _per_activity(header)
    message = "Units is CNTS, and neither (7053,1000) nor (7053,1009) of Philips gives a factor"
    raise _LackingError(message)


def _per_activity(header: Dataset) -> float:
    """Weight by the dose that is left at the time to which the values are corrected, in g/Bq."""
    given = _value(header, "RadiopharmaceuticalInformationSequence", list) or []
    if len(given) != 1:
        message = "RadiopharmaceuticalInformationSequence does not hold one item"
        raise _LackingError(message)
    weight = _number(header, "PatientWeight")
    dose, half_life = (
        _number(given[0], f"Radionuclide{name}") for name in ("TotalDose", "HalfLife")
    )
    if header.DecayCorrection == "START":
        dose *= 2 ** (-_age(header, given[0], half_life) / half_life)
    return 1000 * weight / dose


def _age(header: Dataset, given: Dataset, half_life: float) -> float:
    """Seconds from when the dose was measured to when the scan began."""
    from pydicom.valuerep import DT, TM

    name = "RadiopharmaceuticalStartDateTime"
    scanned, started = _scanned(header, half_life), _local(header, _value(given, name, DT))
    if started is None:
        name = "RadiopharmaceuticalStartTime"  # of a day that nobody names
        time = _value(given, name, TM)
        if time is None:
            message = f"{name} is missing, or not a time"
            raise _LackingError(message)
        started = datetime.combine(scanned.date(), time)
        if started > scanned:
            started -= timedelta(days=1)
    age = (scanned - started).total_seconds()
    if not 0 <= age <= _OLDEST * half_life:
        message = f"{name} is after the scan, or more than {_OLDEST} half-lives before it"
        raise _LackingError(message)
    return age


def _scanned(header: Dataset, half_life: float) -> datetime:
    """When the scan of the whole series began, which is the time its values are corrected to.

    SeriesTime is that of a later step where it is after the acquisition; then it is told by GE, or
    counted back from the frame.
    """
    from pydicom.valuerep import DT

    series, acquired = _moment(header, "Series"), _moment(header, "Acquisition")
    if series <= acquired:
        return series
    told = _local(header, _private(header, *_GE, _SCANNED, DT))
    if told is not None:
        return told
    after, frame = (
        (_value(header, name, float) or 0.0) / 1000
        for name in ("FrameReferenceTime", "ActualFrameDuration")
    )
    if not (0 < after < math.inf and 0 < frame < math.inf):
        message = (
            "SeriesTime is after AcquisitionTime, and FrameReferenceTime or ActualFrameDuration "
            "does not say when the scan began"
        )
        raise _LackingError(message)
    rate = math.log(2) / half_life
    average = math.log(rate * frame / -math.expm1(-rate * frame)) / rate
    return acquired + timedelta(seconds=average - after)


def _moment(header: Dataset, event: str) -> datetime:
    from pydicom.valuerep import DA, TM

    date, time = _value(header, f"{event}Date", DA), _value(header, f"{event}Time", TM)
    if date is None or time is None:
        message = f"{event}{'Date' if date is None else 'Time'} is missing, or not one"
        raise _LackingError(message)
    return datetime.combine(date, time)


def _local(header: Dataset, moment: datetime | None) -> datetime | None:
    """A moment on the clock that dates and times of the header are of."""
    from pydicom.valuerep import DT

    if moment is None or moment.tzinfo is None:
        return moment
    here = _value(header, "TimezoneOffsetFromUTC", lambda offset: DT(f"19700101000000{offset}"))
    if here is not None and here.tzinfo is not None:
        moment = moment.astimezone(here.tzinfo)
    return moment.replace(tzinfo=None)


def _number(header: Dataset, keyword: str) -> float:
    what, least, most = _PLAUSIBLE[keyword]
    number = _value(header, keyword, float)
    if number is None or not least <= number <= most:
        message = f"{keyword} is missing, or not {what}"
        raise _LackingError(message)
    return number


def _words(value: Any) -> Sequence[str]:
    return [value] if isinstance(value, str) else list(value)


def _private(
    header: Dataset, group: int, creator: str, element: int, parse: Callable[[Any], T | None]
) -> T | None:
    """The value of an element in a block of private ones."""
    try:
        return parse(header.private_block(group, creator)[element].value)
    except Exception:  # as in _value
        return None


def _value(header: Dataset, keyword: str, parse: Callable[[Any], T | None]) -> T | None:
    """The value of an element, None where it is missing or cannot be."""
    try:
        return parse(header.get(keyword))
    except Exception:  # pydicom raises any: who does not ask for uptake reads the image nonetheless
        return None
