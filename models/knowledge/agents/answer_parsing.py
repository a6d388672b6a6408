"""Where a teacher's answer is parsed: the response becomes the agent's typed answer, or a fault in words."""

from typing import Final

from pydantic import ValidationError

from models.knowledge.agents.agent_roles import Agent, AgentAnswer
from models.knowledge.agents.conversation import Outcome
from models.knowledge.teachers.teacher import TeacherResponse

_MAX_COMPLAINT_CHARS: Final = 300
_MAX_FAULTS_TOLD: Final = 3


def parse_teacher_answer(agent: Agent[AgentAnswer], response: TeacherResponse) -> Outcome[AgentAnswer]:
    """Reads a response as the agent's answer."""
    if response.error:
        return Outcome(
            None,
            fault=_escape_surrogates(response.error),
            raw_answer=_escape_surrogates(response.text),
            is_answered=False,
        )
    raw_answer = _escape_surrogates(response.text) or "(empty)"
    if not response.text.strip() and not response.truncated:
        return Outcome(None, fault="the answer is empty", raw_answer=raw_answer)
    # The flag decides before the text: what was cut off may parse all the same.
    if response.truncated:
        return Outcome(None, fault="the answer was cut off at the token limit", raw_answer=raw_answer)
    try:
        return Outcome(agent.answer_type.model_validate_json(response.text), raw_answer=raw_answer)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, detail['loc'])) or 'answer'}: {detail['msg']}"
            for detail in error.errors()[:_MAX_FAULTS_TOLD]
        )
        return Outcome(None, fault=faults[:_MAX_COMPLAINT_CHARS], raw_answer=raw_answer)


def _escape_surrogates(text: str) -> str:
    """A teacher's text may hold half a surrogate pair, which no file can."""
    return text.encode("utf-8", "backslashreplace").decode()
