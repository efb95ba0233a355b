"""Riesz transforms: directional derivatives without the gain, also along the local structure."""

from __future__ import annotations

from dataclasses import dataclass as plain_dataclass
from math import prod, sqrt
from typing import Annotated, ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator, model_validator
from pydantic.dataclasses import dataclass

from pipeline.bank.expr import Conv, Input, Kernel, Node, Responses, Spectral, Spectrum, Transfer
from pipeline.bank.kernels import axis_index
from pipeline.filters.base import FILTERS, PARAMETERS, Examples, RotationInvariant, Topic
from pipeline.filters.log import LaplacianOfGaussian
from pipeline.filters.simoncelli import Frequencies, Level, Pad, SimoncelliBand, frequencies
from pipeline.filters.steering import multinomial, steered, structure_frame
from pipeline.filters.turned import refuse_turning, turned
from pipeline.types import Grid, Ints


@plain_dataclass(frozen=True, slots=True)
class KernelTransfer:
    """The transfer function of a kernel, applied with periodic boundaries."""

    kernel: Kernel

    def sample(self, shape: Ints) -> npt.NDArray[np.complex128]:
        """The kernel's origin lies on pixel 0; where the image is smaller, it is wrapped around."""
        taps = zip(self.kernel.shape, self.kernel.origin, shape, strict=True)
        at = np.ix_(*((origin - np.arange(k)) % n for k, origin, n in taps))
        embedded = np.zeros(shape)
        np.add.at(embedded, at, self.kernel.array)
        return np.fft.fftn(embedded)


@plain_dataclass(frozen=True, slots=True)
class RieszTransfer:
    """The transfer function of a Riesz transform of `base`; `orders` is per axis of the grid."""

    orders: Ints
    grid: Frequencies
    base: Transfer | None = None

    def sample(self, shape: Ints) -> npt.NDArray[np.complex128]:
        """Complex, at most 1 in magnitude times the base's; 0 at the frequency 0."""
        axes, total = frequencies(shape, self.grid), sum(self.orders)
        radius = np.sqrt(sum(nu**2 for nu in axes))
        product = prod(nu**order for nu, order in zip(axes, self.orders, strict=True))
        scale = (-1j) ** total * sqrt(multinomial(self.orders))
        safe = np.where(radius == 0, 1.0, radius)
        values = np.where(radius == 0, 0.0, scale * product / safe**total)
        return values if self.base is None else values * self.base.sample(shape)


@FILTERS.register("riesz")
@dataclass(frozen=True, config=PARAMETERS)
class Riesz:
    """A Riesz transform of the image, or of its response to a Laplacian of a Gaussian or wavelet.

    IBSI 2's Riesz transforms: the discrete Fourier transform of the extended image, times that of
    the base filter, is multiplied by

    (-i)^L sqrt(L! / (l_x! l_y! l_z!)) nu_x^l_x nu_y^l_y nu_z^l_z / |nu|^L, and by 0 at nu = 0

    and the response is the real part of what that transforms back to. `order: xyy` has l_x = 1,
    l_y = 2, l_z = 0, and L = 3 their sum; order x is the Hilbert transform along the rows of what
    varies along them: of cos(x) it is sin(x). Frequencies count per pixel of each axis, whatever
    the spacing. The base is `sigma`, the kernel of `log`; or `level`, that of `simoncelli`; or
    none. `grid: ibsi | dft` as in `simoncelli`. The IBSI's reference maps need a `pad` of half the
    image.

    With `tensor_sigma` x, y and z are no longer the image's axes but turn in every pixel with the
    structure tensor, the Gaussian mean (truncated at 4 sigmas) of the products of the first-order
    transforms: x runs along the strongest change, y along the next, z along the least. A direction
    has no sign of its own: each points to the right, or straight down the screen. Where two changes
    are equally strong their directions are arbitrary. The IBSI has no reference maps for this.

    References
    ----------
    M. Unser, N. Chenouard, "A unifying parametric framework for 2D steerable wavelet
    transforms", SIAM Journal on Imaging Sciences 6, 2013; N. Chenouard, M. Unser, "3D steerable
    wavelets in practice", IEEE Transactions on Image Processing 21, 2012; A. Depeursinge et
    al., "Standardised convolutional filtering for radiomics", arXiv:2006.05470.

    Examples
    --------
    >>> node = Riesz(order="x", grid="dft").responses(Grid((1.0, 1.0)))[""]
    >>> node.transfer.orders, node.transfer.sample((2, 4))[0]
    ((0, 1), array([0.+0.j, 0.-1.j, 0.+1.j, 0.+1.j]))
    """

    topic: ClassVar[Topic] = "wavelets"
    examples: ClassVar[Examples] = ({"order": ["x", "xy"], "level": 2},)

    order: Annotated[str, Field(description="an axis per derivative: x, yy, xyz ...")]
    sigma: Annotated[
        float | None, Field(gt=0, description="of the Laplacian of a Gaussian; a length")
    ] = None
    truncate: Annotated[
        float, Field(gt=0, description="half the edge of the Laplacian's box; sigmas")
    ] = 4.0
    level: Annotated[Level | None, Field(description="of the Simoncelli wavelet")] = None
    grid: Frequencies = "ibsi"
    pad: Pad = 0.5
    tensor_sigma: Annotated[
        float | None,
        Field(gt=0, description="steer along the structure tensor of this window; a length"),
    ] = None
    rotation_invariant: RotationInvariant = "none"

    @field_validator("order")
    @classmethod
    def _is_made_of_axes(cls, text: str) -> str:
        if not 1 <= len(text) <= 8 or set(text) - set("xyz"):
            message = f"{text!r} is not an order; write 1 to 8 axes, as in x, yy or xyz"
            raise ValueError(message)
        return "".join(sorted(text))

    @model_validator(mode="after")
    def _has_one_base(self) -> Self:
        if self.sigma is not None and self.level is not None:
            message = (
                "sigma is for the Laplacian of a Gaussian and level for the wavelet; give one of "
                "them, or none"
            )
            raise ValueError(message)
        if self.tensor_sigma is not None:
            reason = "tensor_sigma turns it with the image"
            refuse_turning("a steered transform", reason, self.rotation_invariant)
        return self

    def responses(self, grid: Grid) -> Responses:
        """One response; PlanError where the grid lacks an axis, or to steer in 1-D."""
        for letter in self.order:
            axis_index(letter, grid)
        axes = "xyz"[: grid.ndim]
        orders = tuple(self.order.count(axis) for axis in axes)
        spectrum, base = Spectrum(Input(), grid.ndim, self.pad), self._base(grid)

        def along(orders: Ints) -> Node:
            return Spectral(spectrum, RieszTransfer(orders[::-1], self.grid, base))

        if self.tensor_sigma is None:
            return turned("riesz", {"": along(orders)}, self.rotation_invariant, grid)
        first = [along(tuple(int(axis == other) for other in axes)) for axis in axes]
        frame = structure_frame(first, self.tensor_sigma, grid)
        return {"": steered(orders, frame, along)}

    def _base(self, grid: Grid) -> Transfer | None:
        if self.level is not None:
            return SimoncelliBand(self.level, self.grid)
        if self.sigma is None:
            return None
        item = LaplacianOfGaussian(sigma=self.sigma, truncate=self.truncate)
        conv = item.responses(grid)[""]
        assert isinstance(conv, Conv)
        return KernelTransfer(conv.kernel)
