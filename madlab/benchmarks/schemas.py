"""One schema per kind of file that benchmarks read; `schemas.validated` holds a file against it.

Values are taken as they are written: a number in quotes is not a number. Keys that a schema does not know are left out,
so that files may say more than we need.
"""

from typing import Annotated

from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from madlab.files.schemas import OPEN, STRICT, Deviation, Mean

Count = Annotated[int, Field(ge=0, lt=2**62)]
"""A count, a label or an id: it fits NumPy's int64."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
ArrayFile = Annotated[str, Field(pattern=r"^(train|val|test)_(images|labels|ids)\.npy$")]


class Normalization(BaseModel):
    """Statistics of the three channels, for pixels scaled to 0..1."""

    model_config = STRICT
    mean: Annotated[list[Mean], Field(min_length=3, max_length=3)]
    std: Annotated[list[Deviation], Field(min_length=3, max_length=3)]


class StoredArray(BaseModel):
    """One array of a packed domain. sample: sha256 of some of its blocks, which domains packed earlier do not have."""

    model_config = OPEN
    bytes: Count
    sha256: Sha256
    sample: Sha256 | None = None


class SplitCounts(BaseModel):
    """Images of each split."""

    model_config = OPEN
    train: Count
    val: Count
    test: Count


class Manifest(BaseModel):
    """manifest.json of a packed domain; see `madlab.benchmarks.packed`."""

    model_config = OPEN
    version: int
    name: Annotated[str, Field(min_length=1)]
    class_names: Annotated[list[str], Field(min_length=2)]
    flip: bool
    normalization: Normalization
    size: Annotated[int, Field(ge=1, le=4096)]
    squash: bool
    classes: Count
    images: dict[str, Count]
    splits: SplitCounts
    files: dict[ArrayFile, StoredArray]


class AnnotatedImage(TypedDict):
    """An image of an annotation file. Plain dictionaries: ImageNet's training file has over a million of them."""

    id: Count
    file_name: str


class Annotation(TypedDict):
    """The class of one image; a stripped test file may leave it out."""

    image_id: Count
    category_id: Annotated[Count, Field(default=0)]


class Category(TypedDict):
    id: Count
    name: str


class AnnotationFile(BaseModel):
    """DOMAIN_train.json and its like of the Visual Decathlon, in the manner of COCO."""

    model_config = OPEN
    images: list[AnnotatedImage]
    categories: list[Category] = []
    annotations: list[Annotation] = []


class Prediction(TypedDict):
    """An entry of the challenge's results.json."""

    image_id: Count
    category_id: Count
