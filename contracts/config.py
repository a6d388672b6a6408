"""The base of every typed configuration object."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

Precision = Literal["auto", "float32", "bfloat16"]
"""Of matrix products in training; `auto`: bfloat16 on GPUs that have it, float32 elsewhere."""


class Config(BaseModel):
    """A frozen configuration: unknown keys are errors, and values are validated."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), use_attribute_docstrings=True
    )
