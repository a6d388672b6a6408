"""Versioned prompt files and how a request becomes chat messages.

A prompt file starts with `version: N`, a line `---` follows, then the instructions. Catalogue text never
enters the instructions. It is sent as JSON between markers in the user's message, with `<` escaped, so that
no text can forge the closing marker.
"""

import json
from functools import cache
from importlib.resources import files
from typing import Final, NamedTuple

from pydantic import BaseModel

from contracts.digests import digest_value
from models.knowledge.agents.agent_roles import AGENT_NAMES
from models.knowledge.knowledge_schema import build_answer_schema

OPENING_MARKER: Final = "<catalogue_data>"
CLOSING_MARKER: Final = "</catalogue_data>"


class Prompt(NamedTuple):
    """One agent's instructions."""

    version: str
    text: str


@cache
def read_prompt_file(agent_name: str) -> Prompt:
    """Reads an agent's prompt file; its version is the number in the file and the digest of its text."""
    file_text = (
        files("models.knowledge.agents").joinpath("prompts", f"{agent_name}.md").read_text(encoding="utf-8")
    )
    head, _, text = file_text.partition("\n---\n")
    head_name, _, version_number = head.partition(":")
    assert head_name == "version", f"{agent_name}.md must start with 'version: N'"
    return Prompt(f"{version_number.strip()}-{digest_value(text)[:8]}", text.strip())


@cache
def digest_prompt_set() -> str:
    """One version (8 hex digits) for all prompts together: `prompt_version` of the KNOWLEDGE table."""
    return digest_value([(agent, read_prompt_file(agent).version) for agent in AGENT_NAMES])[:8]


def render_chat_messages(
    agent: str, agent_input: BaseModel, answer_type: type[BaseModel], *, tells_schema: bool = True
) -> list[dict[str, str]]:
    """Chat messages of one request. What all products share comes first, so that prefix caches help."""
    instructions = read_prompt_file(agent).text
    return frame_chat_messages(instructions, agent_input, answer_type if tells_schema else None)


def frame_chat_messages(
    instructions: str, agent_input: BaseModel, answer_type: type[BaseModel] | None
) -> list[dict[str, str]]:
    """The frame around instructions, input and schema, which is the same for all agents."""
    system_text = instructions
    if answer_type is not None:
        schema_text = _dump_answer_schema(answer_type)
        system_text += f"\n\nAnswer with one JSON object of this schema:\n{schema_text}"
    # JSON reads the escape as `<` again; the markers can only be written by us.
    input_json = agent_input.model_dump_json().replace("<", "\\u003c")
    return [
        {"role": "system", "content": system_text},
        {"role": "user", "content": f"{OPENING_MARKER}\n{input_json}\n{CLOSING_MARKER}"},
    ]


@cache
def _dump_answer_schema(answer_type: type[BaseModel]) -> str:
    return json.dumps(build_answer_schema(answer_type), separators=(",", ":"))
