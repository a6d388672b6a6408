"""Each question shows the most similar item whose answer is known."""

import json

import pytest

from contracts.errors import UserError
from models.knowledge.config import OpenAITeacherConfig, TransformersTeacherConfig
from models.knowledge.distillation.product_text import Product
from models.knowledge.teachers.build_teacher import build_teacher
from models.knowledge.teachers.compact.compact_answer import CompactAnswer
from models.knowledge.teachers.compact.compact_teacher import CompactTeacher
from models.knowledge.teachers.compact.retrieved_examples import EXAMPLES_FILE, AnsweredItem, ExampleStore
from models.knowledge.teachers.teacher import TeacherResponse, TokenPrice

TITLES = ("Nitrile gloves, size L", "Digital caliper 150 mm", "手术 一次性 手套", "Soldering iron 60 W")


def answer_item(title: str) -> AnsweredItem:
    facets = dict.fromkeys(CompactAnswer.model_fields, ())
    answer = CompactAnswer.model_validate({**facets, "kind": f"kind of {title}", "life": ""})
    return AnsweredItem(product=Product(title=title), answer=answer)


@pytest.fixture
def store() -> ExampleStore:
    return ExampleStore([answer_item(title) for title in TITLES])


@pytest.mark.parametrize(
    ("title", "example"),
    [
        ("Latex gloves XL", TITLES[0]),
        ("CALIPER, digital, steel", TITLES[1]),
        ("一次性 乳胶手套", TITLES[2]),
        ("Unheard of", None),
        ("", None),
    ],
)
def test_the_example_shares_the_rarest_words(store, title, example):
    (found,) = store.find_examples([Product(title=title)])
    assert (found and found.product.title) == example


def test_a_product_is_never_its_own_example(store):
    examples = store.find_examples([Product(title=title) for title in TITLES])
    assert [example and example.product.title for example in examples] == [None] * len(TITLES)


def test_many_products_find_what_each_finds_alone(store, monkeypatch):
    products = [Product(title=f"{title} {number}") for number, title in enumerate(TITLES * 3)]
    alone = [store.find_examples([product])[0] for product in products]
    monkeypatch.setattr("models.knowledge.teachers.compact.retrieved_examples._PRODUCTS_AT_ONCE", 5)
    assert store.find_examples(products) == alone


def test_questions_show_examples_and_the_answers_depend_on_them(store):
    class Inner:
        name, sampling, price = "inner", {}, TokenPrice()

        def answer_batch(self, requests):
            self.inputs = [json.loads(request.agent_input.model_dump_json()) for request in requests]
            return (TeacherResponse(number, "{}") for number in range(len(requests)))

    inner = Inner()
    teacher = CompactTeacher(inner, store)
    list(teacher.ask_about_products([Product(title="Latex gloves XL"), Product(title="Unheard of")]))
    with_example, without = inner.inputs
    assert with_example["example"]["answer"]["kind"] == f"kind of {TITLES[0]}"
    assert with_example["product"]["title"] == "Latex gloves XL"
    assert without["title"] == "Unheard of"
    assert teacher.sampling != CompactTeacher(inner).sampling


def test_a_written_store_reads_as_the_same(store, tmp_path):
    store.write(tmp_path)
    assert ExampleStore.read(tmp_path / EXAMPLES_FILE).digest == store.digest


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no file"),
        ("", "has no lines"),
        ('{"product": {"title": "A"}}\n', "line 1 of .* is no answered item"),
        ("not json\n", "line 1 of .* is no answered item"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_broken_examples_are_refused_by_name(tmp_path, content, message):
    path = tmp_path / "examples.jsonl"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    server = {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "student", "form": "compact"}
    with pytest.raises(UserError, match=f"teacher.examples: .*{message}"):
        build_teacher(OpenAITeacherConfig.model_validate({**server, "examples": path}))


def test_examples_without_the_compact_form_are_refused(store, tmp_path):
    store.write(tmp_path)
    config = TransformersTeacherConfig(kind="transformers", model="any", examples=tmp_path / EXAMPLES_FILE)
    with pytest.raises(UserError, match=r"set teacher.form = compact"):
        build_teacher(config)
