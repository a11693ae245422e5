"""Read `usage.json`, which describes a model's classes and input.

`tasks.models.usage` writes it next to the model.
"""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from tasks.core.data.photographs import Fit, ImageFormat
from tasks.core.errors import UserError
from tasks.core.messages import first_line
from tasks.core.settings.base import explain
from tasks.sources.picture_decoding import printable

USAGE_FILE = "usage.json"

# Names are printed on terminals and in pages, so control characters are escaped.
Name = Annotated[str, AfterValidator(printable)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _Image(_Part):
    shape: tuple[PositiveInt, PositiveInt, Literal[1, 3]]
    ground: Annotated[float, Field(ge=0, le=1)]
    # Models of earlier versions were trained on padded images.
    fit: Fit = "pad"
    # Earlier versions scaled each picture of more than 8 bits by itself.
    white: Annotated[int, Field(ge=255, le=65_535)] = 255


class _Input(_Part):
    shape: tuple[Literal["n"], PositiveInt, PositiveInt, PositiveInt]
    method: Literal["scaled", "raw", "vgg16"]


class Usage(_Part):
    """The content of a `usage.json`."""

    dataset: Name
    class_names: Annotated[tuple[Name, ...], Field(min_length=2)]
    image: _Image
    input: _Input

    @property
    def image_format(self) -> ImageFormat:
        """The format of the images that the model was trained on."""
        return ImageFormat(
            *self.image.shape, self.image.fit, self.image.ground, white=self.image.white
        )


def read_usage(content: bytes, origin: str) -> Usage:
    """Parse the content of a `usage.json`; `origin` names it in messages.

    Raises:
        UserError: it is not JSON, or a field is missing or invalid.
    """
    try:
        return Usage.model_validate(json.loads(content))
    except ValidationError as error:
        raise UserError(
            f"{explain(error, origin)}; models of earlier versions lack some fields: run the "
            "stage again, or copy both the model and its usage.json again."
        ) from None
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{origin} is not valid JSON ({first_line(error)}); copy it again."
        ) from None
