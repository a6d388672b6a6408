"""The canary: one tiny request whose answer shows whether the schema really constrains the model.

Servers ignore fields that they don't know and answer with HTTP 200 and free text, so nothing else would tell.
"""

import json
from typing import Any, Final

from contracts.errors import UserError
from models.knowledge.products import printable
from models.knowledge.teachers.base import Response
from models.knowledge.teachers.chat import Chat

_CODE: Final = "kq7-zr2-xw9"
_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"code": {"type": "string", "enum": [_CODE]}},
    "required": ["code"],
    "additionalProperties": False,
}
# The message does not mention the code: only a model that is held to the schema can give it.
CANARY: Final = Chat("canary", [{"role": "user", "content": "Say good morning, in one short sentence."}], _SCHEMA)
_MAX_SHOWN_CHARS = 120


def check_canary(response: Response, *, remedy: str) -> None:
    """Looks whether the canary lived.

    Args:
        response: The answer to `CANARY`.
        remedy: What the user can do about a schema that was ignored.

    Raises:
        UserError: there was no answer, or one that does not keep to the schema.
    """
    if response.error:
        raise UserError(f"teacher: the trial request got no answer: {printable(response.error)}")
    try:
        if json.loads(response.text) == {"code": _CODE}:
            return
    except ValueError:
        pass
    raise UserError(
        "teacher: the answer's JSON schema was ignored: a trial request that allows one answer only got "
        f"{response.text[:_MAX_SHOWN_CHARS]!r}. {remedy}"
    )
