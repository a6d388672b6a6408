"""A language model that is asked once an item; rules stand in for planner, critic and editor.

Large models so cost a fifth of what the whole team costs. Small ones, such as a distilled student, can
answer at all.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic import BaseModel, ValidationError

from models.knowledge.agents.agent_roles import AnalystAssignment
from models.knowledge.agents.prompt_files import read_prompt_file
from models.knowledge.distillation.product_text import Product
from models.knowledge.teachers.compact.compact_answer import ITEM_WRITER, CompactAnswer, make_item_request
from models.knowledge.teachers.compact.retrieved_examples import ExampleStore
from models.knowledge.teachers.model_identity import identify_source_code
from models.knowledge.teachers.replay.recorded_knowledge import ItemKnowledge
from models.knowledge.teachers.replay.recorded_team import answer_from_knowledge
from models.knowledge.teachers.teacher import Teacher, TeacherRequest, TeacherResponse

COMPACT_EVIDENCE: Final = "told in one answer, without a reason"
_COMPLAINT: Final = "it was cut off, or some part of it was missing or too long"
_CODE_PATHS: Final = (
    "teachers/compact",
    "teachers/replay/recorded_team.py",
    "agents/record_review.py",
    "distillation/product_text.py",
)


class ItemReply(NamedTuple):
    """A model's reply about one product."""

    number: int
    """Of the product in its batch."""
    response: TeacherResponse
    answer: CompactAnswer | None
    """None where the reply is no valid answer."""


class CompactTeacher:
    """Answers the agents from one compact answer an item."""

    def __init__(self, inner: Teacher, examples: ExampleStore | None = None) -> None:
        """Wraps the teacher that is really asked. Where there are examples, each question shows one."""
        self._inner, self._examples = inner, examples
        self.name = f"{inner.name}-compact"
        self._prompt_version = read_prompt_file(ITEM_WRITER).version
        room = Path(__file__).parents[2]
        self.sampling: dict[str, Any] = inner.sampling | {
            "compact": [
                self._prompt_version,
                # Which claims are quoted, and which are objected to, the code decides.
                identify_source_code(room / path for path in _CODE_PATHS),
                *([examples.digest] if examples else []),
            ]
        }
        self.price = inner.price

    def ask_about_products(
        self, products: Sequence[Product], *, is_repair: Sequence[bool] | None = None
    ) -> Iterator[ItemReply]:
        """Asks about each product once; replies come in any order."""
        repairs = is_repair or [False] * len(products)
        examples = self._examples.find_examples(products) if self._examples else [None] * len(products)
        requests = [
            make_item_request(
                product,
                prompt_version=self._prompt_version,
                example=example,
                complaint=_COMPLAINT if repair else "",
            )
            for product, example, repair in zip(products, examples, repairs, strict=True)
        ]
        for response in self._inner.answer_batch(requests):
            yield ItemReply(response.number, response, read_compact_answer(response))

    def answer_batch(self, requests: Sequence[TeacherRequest]) -> Iterator[TeacherResponse]:
        """Answers a batch; both analysts of a product share one question, whose cost the first one bears."""
        numbers_by_question: dict[tuple[str, bool], list[int]] = {}
        products: list[Product] = []
        for number, request in enumerate(requests):
            if not isinstance(request.agent_input, AnalystAssignment):
                yield answer_by_rules(request)._replace(number=number)
                continue
            product, is_repair = request.agent_input.product, bool(request.attempt)
            numbers = numbers_by_question.setdefault((product.digest, is_repair), [])
            if not numbers:
                products.append(product)
            numbers.append(number)
        questions = list(numbers_by_question)
        for reply in self.ask_about_products(products, is_repair=[repair for _, repair in questions]):
            response = reply.response
            for number in numbers_by_question[questions[reply.number]]:
                yield tell_agent(requests[number], reply)._replace(
                    number=number,
                    tokens_in=response.tokens_in,
                    tokens_out=response.tokens_out,
                    seconds=response.seconds,
                )
                response = TeacherResponse(0, "")


def read_compact_answer(response: TeacherResponse) -> CompactAnswer | None:
    """The valid answer in a response; none where there is none."""
    if response.error or response.truncated:
        return None
    try:
        return CompactAnswer.model_validate_json(response.text)
    except ValidationError:
        return None


def answer_by_rules(request: TeacherRequest) -> TeacherResponse:
    """The answer of an agent that needs no model: planner, critic, editor."""
    return TeacherResponse(
        0, answer_from_knowledge(request.agent_input, request.answer_type, _OneAnswer(None))
    )


def tell_agent(request: TeacherRequest, reply: ItemReply) -> TeacherResponse:
    """What a reply says to an analyst; as it came where it is not valid. It costs nothing."""
    response = reply.response
    if reply.answer is None:
        return TeacherResponse(0, response.text, truncated=response.truncated, error=response.error)
    source = _OneAnswer(reply.answer.to_knowledge())
    return TeacherResponse(0, answer_from_knowledge(request.agent_input, request.answer_type, source))


def is_compact_draft(agent_input: BaseModel) -> bool:
    """Says whether what critic and editor read was drafted from a compact answer."""
    record = getattr(agent_input, "record", None)
    return record is not None and any(
        placed.claim.evidence == COMPACT_EVIDENCE for placed in record.iterate_claims()
    )


class _OneAnswer:
    """One answer as the source of what rules say."""

    evidence = COMPACT_EVIDENCE

    def __init__(self, knowledge: ItemKnowledge | None) -> None:
        self._knowledge = knowledge

    def list_category_kinds(self, category: str) -> list[str]:  # noqa: ARG002 - as the protocol has it
        return []

    def find_product_knowledge(self, product: Product) -> ItemKnowledge | None:  # noqa: ARG002 - likewise
        return self._knowledge
