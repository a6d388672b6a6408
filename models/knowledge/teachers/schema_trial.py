"""The trial request: its answer shows whether the schema really constrains the model.

Servers ignore fields that they don't know and answer with HTTP 200 and free text, so nothing else would tell.
"""

import json
from typing import Any, Final

from contracts.errors import UserError
from models.knowledge.distillation.product_text import escape_control_chars
from models.knowledge.teachers.chat_messages import ChatPrompt
from models.knowledge.teachers.teacher import TeacherResponse

_ONLY_CODE: Final = "kq7-zr2-xw9"
_TRIAL_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"code": {"type": "string", "enum": [_ONLY_CODE]}},
    "required": ["code"],
    "additionalProperties": False,
}
# The message does not mention the code: only a model that is held to the schema can give it.
SCHEMA_TRIAL: Final = ChatPrompt(
    "schema_trial", [{"role": "user", "content": "Say good morning, in one short sentence."}], _TRIAL_SCHEMA
)
_MAX_SHOWN_CHARS = 120


def check_schema_trial(response: TeacherResponse, *, remedy: str) -> None:
    """Verifies that the trial's answer keeps to its schema.

    Args:
        response: The answer to `SCHEMA_TRIAL`.
        remedy: What the user can do about a schema that was ignored.

    Raises:
        UserError: there was no answer, or one that does not keep to the schema.
    """
    if response.error:
        raise UserError(f"teacher: the trial request got no answer: {escape_control_chars(response.error)}")
    try:
        if json.loads(response.text) == {"code": _ONLY_CODE}:
            return
    except ValueError:
        pass
    if response.truncated and not response.text.lstrip().startswith(tuple("{[")):
        raise UserError(
            "teacher: the trial request was cut off at the token limit before its answer began: the model "
            "thinks first. Raise teacher.max_tokens or switch thinking off (extra_body: "
            "{chat_template_kwargs: {enable_thinking: false}}). If it does not think, it ignores schemas. "
            + remedy
        )
    raise UserError(
        "teacher: the answer's JSON schema was ignored: a trial request that allows one answer only got "
        f"{response.text[:_MAX_SHOWN_CHARS]!r}. {remedy}"
    )
