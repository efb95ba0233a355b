"""Suv: PET as standardised uptake values."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from pipeline.errors import PlanError
from pipeline.steps.base import STEPS, Prepared
from pipeline.types import ImageInfo


@STEPS.register("suv")
@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Suv:
    """Turn PET into standardised uptake values: x -> x * body weight / activity left, in g/ml.

    Written `suv: bodyweight`. The factor is one for a series and comes from its DICOM header:
    weight, dose, half-life, and the time to which values are corrected for decay. That is when the
    scan began (`DecayCorrection` START) or when the dose was given (ADMIN). Counts of Philips have
    a private factor; values in g/ml stay as they are.

    An image that is no DICOM PET, or whose header lacks something or holds what cannot be, is a
    failed row that names the element. Steps that change the unit come after.

    References
    ----------
    QIBA, vendor-neutral pseudo-code for SUV calculation; DICOM PS3.3 C.8.9.1.

    Examples
    --------
    >>> Suv(by="bodyweight")
    Suv(by='bodyweight')
    """

    by: Annotated[Literal["bodyweight"], Field(description="what activity is normalised by")]

    @property
    def whole_image(self) -> bool:
        """False: each pixel is multiplied by itself."""
        return False

    def info(self, info: ImageInfo) -> ImageInfo:
        """The same image in g/ml.

        Raises
        ------
        PlanError
            Where the header gives no factor, or the values are no longer those of the file.
        """
        _factor(info)
        return replace(info, value_unit="g/ml")

    def apply(self, images: Prepared) -> Prepared:
        """Multiply all pixels by their image's factor."""
        factors = images.values.new_tensor([_factor(info) for info in images.infos])
        values = images.values * factors.reshape(-1, *(1,) * (images.values.ndim - 1))
        return replace(images, values=values, infos=tuple(map(self.info, images.infos)))


def _factor(info: ImageInfo) -> float:
    uptake = info.uptake
    if uptake is None:
        message = "suv needs a DICOM PET image, which this is not; leave it out, or leave out suv"
        raise PlanError(message)
    if uptake.factor is None:
        message = f"suv cannot be computed: {uptake.lacking}; correct the DICOM header"
        raise PlanError(message)
    if uptake.unit != info.value_unit:
        message = "suv needs values in the unit of the file; put it before the other steps, once"
        raise PlanError(message)
    return uptake.factor
