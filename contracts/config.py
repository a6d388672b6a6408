"""The base of every typed configuration object."""

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """A frozen configuration: unknown keys are errors, values are validated, defaults are the embedded ones."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())
