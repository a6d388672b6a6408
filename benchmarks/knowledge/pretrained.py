"""Whether a real, small, pretrained model answers in the schemas: SmolLM2-135M through plain transformers.

What it says is weak; that it can always be read is what constrained decoding promises. Needs
`scripts/make_smollm.sh`.
"""

from pydantic import ValidationError

from benchmarks.shared.public_data import PublicDataMissingError
from benchmarks.shared.results import REPOSITORY, Row, make_row
from models.knowledge.agents.agent_roles import (
    ATTRIBUTE_ANALYST,
    DEMAND_ANALYST,
    PLANNER,
    AnalystAssignment,
    CategoryBrief,
    CategoryPlan,
)
from models.knowledge.config import TransformersTeacherConfig
from models.knowledge.distillation.product_text import Product
from models.knowledge.teachers.build_teacher import build_teacher
from models.knowledge.teachers.teacher import TeacherRequest

MODEL = REPOSITORY / "build/smollm2-135m"
_TITLES = (
    "Steel camping mug with carabiner handle",
    "USB-C charger 65 W, foldable plug",
    "Merino wool socks, ankle length",
    "Watercolor set with 24 pans",
)
_MAX_TOKENS = 6000
"""The bounds of the schemas end an answer before. A model that repeats itself fills its lists to these."""


def measure_pretrained() -> list[Row]:
    """The row `knowledge.smollm.valid_share`: planner and both analysts on a few products.

    Raises:
        PublicDataMissingError: the model was not made.
    """
    if not (MODEL / "model.safetensors").is_file():
        raise PublicDataMissingError("there is no pretrained model: run scripts/make_smollm.sh")
    requests = list_requests(_TITLES)
    teacher = build_teacher(
        TransformersTeacherConfig(kind="transformers", model=str(MODEL), max_tokens=_MAX_TOKENS)
    )
    num_valid, num_tokens, seconds = 0, 0, 0.0
    for response in teacher.answer_batch(requests):
        num_valid += is_valid(requests[response.number], response.text)
        num_tokens += response.tokens_out
        seconds += response.seconds
    print(f"{num_valid} of {len(requests)} valid, {num_tokens:,} tokens, {seconds:.0f} s", flush=True)
    data = f"{len(requests)} questions on {len(requests) // 3} products, SmolLM2-135M-Instruct, greedy"
    data += f", up to {_MAX_TOKENS:,} tokens an answer"
    return [make_row("knowledge.smollm.valid_share", num_valid / len(requests), unit="share", data=data)]


def list_requests(titles: tuple[str, ...]) -> list[TeacherRequest]:
    """What planner and analysts are asked on some products."""
    plan = CategoryPlan(reasoning="", product_kind="article", focus=("use",), pitfalls=())
    requests = []
    for title in titles:
        assignment = AnalystAssignment(product=Product(title=title, category="Shop"), plan=plan)
        requests += [
            TeacherRequest(PLANNER.name, CategoryBrief(category=title), PLANNER.answer_type, "1"),
            TeacherRequest(DEMAND_ANALYST.name, assignment, DEMAND_ANALYST.answer_type, "1"),
            TeacherRequest(ATTRIBUTE_ANALYST.name, assignment, ATTRIBUTE_ANALYST.answer_type, "1"),
        ]
    return requests


def is_valid(request: TeacherRequest, text: str) -> bool:
    """Whether an answer can be read."""
    try:
        request.answer_type.model_validate_json(text)
    except ValidationError:
        return False
    return True
