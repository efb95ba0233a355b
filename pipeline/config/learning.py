"""The section `learn`, which `filterbank learn` reads and a run does not."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass


def _safetensors(value: str) -> str:
    if not value.endswith(".safetensors"):
        message = "must end in .safetensors; write file: bank.safetensors"
        raise ValueError(message)
    return value


@dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class Learn:
    """What `filterbank learn` makes of patches of the images; no part of a run."""

    patches: Annotated[
        Literal["pca", "zca", "kmeans"],
        Field(description="principal components, whitening filters, or centroids of patches"),
    ]
    size: Annotated[int, Field(ge=2, description="edge of a patch, and of the filters; pixels")]
    file: Annotated[
        str,
        AfterValidator(_safetensors),
        Field(description="where the bank goes, from the config file's folder; a .safetensors"),
    ]
    count: Annotated[
        Annotated[int, Field(ge=1)] | None,
        Field(description="number of filters; null: as many as there are (not kmeans)"),
    ] = None
    samples: Annotated[int, Field(ge=1, description="patches to draw, from all places alike")] = (
        100_000
    )
    seed: Annotated[
        int, Field(ge=0, lt=2**32, description="of the drawing; another one, other patches")
    ] = 0
    epsilon: Annotated[
        float,
        Field(ge=0, description="zca, kmeans: added to the variances, as a share of their mean"),
    ] = 0.1

    @model_validator(mode="after")
    def _counts_its_centroids(self) -> Self:
        if self.patches == "kmeans" and self.count is None:
            message = "kmeans needs a count; write count: 64"
            raise ValueError(message)
        return self
