"""Versioned prompt files and how a request becomes chat messages.

A prompt file starts with `version: N`, a line `---` follows, then the instructions. Catalogue text never enters the
instructions: it is sent as JSON between markers in the user's message, with `<` escaped so that no text can forge the
closing marker.
"""

import json
from functools import cache
from importlib.resources import files
from typing import Final, NamedTuple

from pydantic import BaseModel

from contracts.digests import digest_value
from models.knowledge.agents.roles import AGENT_NAMES
from models.knowledge.schema import json_schema

OPENING: Final = "<catalogue_data>"
CLOSING: Final = "</catalogue_data>"


class Prompt(NamedTuple):
    """One agent's instructions."""

    version: str
    text: str


@cache
def read_prompt(agent: str) -> Prompt:
    """Reads an agent's prompt file; its version is the number in the file and the digest of its text."""
    source = files("models.knowledge.agents").joinpath("prompts", f"{agent}.md").read_text(encoding="utf-8")
    head, _, text = source.partition("\n---\n")
    name, _, number = head.partition(":")
    assert name == "version", f"{agent}.md must start with 'version: N'"
    return Prompt(f"{number.strip()}-{digest_value(text)[:8]}", text.strip())


@cache
def prompt_set_version() -> str:
    """One version (8 hex digits) for all prompts together: `prompt_version` of the KNOWLEDGE table."""
    return digest_value([(agent, read_prompt(agent).version) for agent in AGENT_NAMES])[:8]


def render(agent: str, given: BaseModel, answer: type[BaseModel]) -> list[dict[str, str]]:
    """Chat messages of one request: instructions first, the same for all products, so that prefix caches help."""
    return lay_out(read_prompt(agent).text, given, answer)


def lay_out(instructions: str, given: BaseModel, answer: type[BaseModel]) -> list[dict[str, str]]:
    """The frame around instructions, input and schema, which is the same for all agents."""
    system = f"{instructions}\n\nAnswer with one JSON object of this schema:\n{_schema_text(answer)}"
    data = given.model_dump_json().replace("<", "\\u003c")
    return [
        {"role": "system", "content": system},
        {"role": "user", "content": f"{OPENING}\n{data}\n{CLOSING}"},
    ]


@cache
def _schema_text(answer: type[BaseModel]) -> str:
    return json.dumps(json_schema(answer), separators=(",", ":"))
