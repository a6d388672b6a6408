"""A cascade: the small teacher answers, and what it is not sure of is asked of the large one.

An item is sent on where the small teacher's answer is not valid, or its confidence is below a threshold
that was read off held-out items. The threshold is one number, so that an item's way does not depend on its
neighbors. Rules stand in for critic and editor where the small teacher answered.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts.errors import UserError
from models.knowledge.agents.agent_roles import AnalystAssignment
from models.knowledge.config import CascadeTeacherConfig
from models.knowledge.costs.cost_ledger import compute_money
from models.knowledge.distillation.product_text import Product
from models.knowledge.teachers.build_teacher import build_teacher
from models.knowledge.teachers.cascade.calibration import CALIBRATION_FILE, Calibration
from models.knowledge.teachers.compact.compact_teacher import (
    CompactTeacher,
    ItemReply,
    answer_by_rules,
    is_compact_draft,
    tell_agent,
)
from models.knowledge.teachers.teacher import (
    ROUTED_COUNT,
    CatalogueTeacher,
    RoutingSummary,
    Teacher,
    TeacherRequest,
    TeacherResponse,
    TokenPrice,
)


@dataclass
class _Account:
    """What one of the two teachers did in this run."""

    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0
    money: float = 0.0

    def charge(self, response: TeacherResponse, price: TokenPrice) -> float:
        """Charges a response; returns what it cost."""
        money = compute_money(response, price)
        self.tokens_in += response.tokens_in
        self.tokens_out += response.tokens_out
        self.seconds += response.seconds
        self.money += money
        return money


class CascadeTeacher:
    """Hands each item to the small teacher or, where that is in doubt, to the large one."""

    def __init__(self, config: CascadeTeacherConfig) -> None:
        student = build_teacher(config.student.model_copy(update={"form": "compact", "confidence": True}))
        assert isinstance(student, CompactTeacher)
        self._student: CompactTeacher = student
        self._fallback: Teacher = build_teacher(config.fallback)
        calibration_path = config.calibration or Path(config.student.model) / CALIBRATION_FILE
        calibration = Calibration.read(calibration_path)
        if not calibration.confidences:
            # Else all items would be sent on, whatever share was asked for.
            raise UserError(
                f"teacher.calibration: {calibration_path} knows no valid answer of the student "
                f"({calibration.num_invalid} were not valid), so there is no threshold. Train the student on "
                "more items or epochs, or from a larger base model, or ask the large teacher alone."
            )
        self._threshold = calibration.find_threshold(share=config.share, min_agreement=config.min_agreement)
        self.price = TokenPrice()
        self._accounts = {"student": _Account(), "fallback": _Account()}
        self._ways: Counter[str] = Counter()

    @property
    def name(self) -> str:
        """Both teachers. That of a fallback may be final only once it has seen the catalogue."""
        return f"cascade-{self._student.name}-{self._fallback.name}"

    @property
    def sampling(self) -> dict[str, Any]:
        """What changes answers: of both teachers, and the threshold."""
        return {
            "student": self._student.sampling,
            "fallback": self._fallback.sampling,
            "threshold": repr(self._threshold),
        }

    @property
    def counts(self) -> Mapping[str, int]:
        """What became of what the large teacher holds, where it knows items by their ids."""
        return self._fallback.counts if isinstance(self._fallback, CatalogueTeacher) else {}

    def join_catalogue(self, items: Iterable[tuple[str, Product]]) -> Sequence[str]:
        """Shows the catalogue to the large teacher, where it knows items by their ids.

        Raises:
            UserError: it knows none of them.
        """
        return self._fallback.join_catalogue(items) if isinstance(self._fallback, CatalogueTeacher) else ()

    def answer_batch(self, requests: Sequence[TeacherRequest]) -> Iterator[TeacherResponse]:
        """Answers a batch: first what the student is sure of, then what is sent on.

        Raises:
            UserError: one of the teachers cannot go on.
        """
        numbers_by_product: dict[str, list[int]] = {}
        products: list[Product] = []
        sent_on: list[int] = []
        for number, request in enumerate(requests):
            agent_input = request.agent_input
            if isinstance(agent_input, AnalystAssignment) and not request.attempt:
                numbers = numbers_by_product.setdefault(agent_input.product.digest, [])
                if not numbers:
                    products.append(agent_input.product)
                numbers.append(number)
            elif is_compact_draft(agent_input):
                yield answer_by_rules(request)._replace(number=number)
            else:
                sent_on.append(number)
        # What the student was paid for an item that it was not sure of is borne by the large one's answer.
        spent_in_vain: dict[int, TeacherResponse] = {}
        for reply in self._student.ask_about_products(products):
            numbers = numbers_by_product[products[reply.number].digest]
            paid = self._charge_student(reply.response)
            if (reason := self._find_doubt(reply)) is None:
                yield from _tell_agents(requests, numbers, reply, paid)
            else:
                self._ways[reason] += 1
                spent_in_vain[numbers[0]] = paid
                sent_on += numbers
        for response in self._fallback.answer_batch([requests[number] for number in sent_on]):
            number = sent_on[response.number]
            money = self._accounts["fallback"].charge(response, self._fallback.price)
            answered = response._replace(number=number, money=money)
            yield _add_cost(answered, spent_in_vain.get(number))

    def summarize_routing(self) -> RoutingSummary:
        """How many items went which way and why, and what each teacher cost."""
        num_items = self._ways.total()
        num_sent = num_items - self._ways["answered"]
        share = num_sent / max(num_items, 1)
        student, fallback = self._accounts["student"], self._accounts["fallback"]
        lines = [
            f"The student was asked about {num_items:,} items; {num_sent:,} ({share:.1%}) were sent on: "
            f"{self._ways['unsure']:,} with a confidence below {self._threshold:.3f}, "
            f"{self._ways['invalid']:,} without a valid answer.",
            *(
                f"  {role}: {account.tokens_in:,} tokens in, {account.tokens_out:,} out, "
                f"{account.seconds:,.0f} s, {account.money:.4f} by its prices"
                for role, account in self._accounts.items()
            ),
        ]
        counts: dict[str, float] = {f"{ROUTED_COUNT}items": num_items, f"{ROUTED_COUNT}sent": num_sent}
        counts |= {f"{ROUTED_COUNT}sent_{reason}": self._ways[reason] for reason in ("unsure", "invalid")}
        counts |= {
            f"{ROUTED_COUNT}student_money": student.money,
            f"{ROUTED_COUNT}fallback_money": fallback.money,
        }
        return RoutingSummary(lines if num_items else [], counts)

    def _charge_student(self, response: TeacherResponse) -> TeacherResponse:
        money = self._accounts["student"].charge(response, self._student.price)
        return response._replace(money=money)

    def _find_doubt(self, reply: ItemReply) -> str | None:
        """Why an item is sent on; none where the student is sure, which is counted."""
        if reply.answer is None:
            return "invalid"
        confidence = reply.response.mean_logprob
        if confidence is None or math.isnan(confidence) or confidence < self._threshold:
            return "unsure"
        self._ways["answered"] += 1
        return None


def _tell_agents(
    requests: Sequence[TeacherRequest], numbers: Sequence[int], reply: ItemReply, paid: TeacherResponse
) -> Iterator[TeacherResponse]:
    free = TeacherResponse(0, "", money=0.0)
    for place, number in enumerate(numbers):
        answered = tell_agent(requests[number], reply)._replace(number=number, money=0.0)
        yield _add_cost(answered, paid if place == 0 else free)


def _add_cost(response: TeacherResponse, other: TeacherResponse | None) -> TeacherResponse:
    if other is None:
        return response
    return response._replace(
        tokens_in=response.tokens_in + other.tokens_in,
        tokens_out=response.tokens_out + other.tokens_out,
        seconds=response.seconds + other.seconds,
        money=(response.money or 0.0) + (other.money or 0.0),
    )
