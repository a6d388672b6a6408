"""All scripts of the world: what counts as quoted, what counts as a word, what agents read."""

import json
import re
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.artifacts import read_lineage, read_table
from contracts.tables import ITEM_EMBEDDINGS, KNOWLEDGE
from models.knowledge.agents.agent_roles import (
    DEMAND_ANALYST,
    AnalystAssignment,
    CategoryBrief,
    CategoryPlan,
    DemandFindings,
    RecordDraft,
    ReviewedDraft,
)
from models.knowledge.agents.prompt_files import render_chat_messages
from models.knowledge.config import EmbeddingConfig, KnowledgeConfig
from models.knowledge.distillation import distill_knowledge as distill
from models.knowledge.distillation.product_text import Product, QuotableText, fold_words, read_product
from models.knowledge.embedding.embed_items import embed_items
from models.knowledge.embedding.embed_queries import embed_queries
from models.knowledge.embedding.exact_words import WORD_PATTERN, WordVectorizer
from models.knowledge.embedding.query_encoder import WordDirections
from models.knowledge.embedding.text_encoder import describe_unknown_scripts
from models.knowledge.teachers.teacher import TeacherRequest, TeacherResponse
from models.knowledge.writing_systems import (
    fold_widths,
    measure_other_scripts,
    split_unspaced_runs,
    split_words,
)

TITLES = {
    "Chinese": "小熊养生壶全自动玻璃电煮茶壶1.5升家用",
    "Chinese, traditional": "陶瓷馬克杯帶蓋勺【大容量】450ml",
    "Japanese": "電気ケトル ステンレス製 一人暮らし用０．８Ｌ",
    "half-width": "ﾃﾞｼﾞﾀﾙ温度計 ﾌﾞﾗｯｸ",
    "Korean": "스테인리스보온병 직장인선물용 500ml",
    "Thai": "กระทะเหล็กหล่อเคลือบเซรามิกขนาด ๒๘ ซม.",
    "Lao": "ໝໍ້ຫຸງເຂົ້າໄຟຟ້າ",
    "Khmer": "ឆ្នាំងបាយអគ្គិសនី",
    "Burmese": "လျှပ်စစ်ထမင်းပေါင်းအိုး",
    "Hindi": "स्टेनलेस स्टील प्रेशर कुकर ५ लीटर",
    "Tamil": "பித்தளை குத்துவிளக்கு 12 அங்குலம்",
    "Arabic": "إبريق شاي زجاجيّ مقاوم للحرارة ٦٠٠ مل",
    "Persian": "قوری شیشه‌ای با صافی ۱۲۰۰ میلی‌لیتر",
    "Hebrew": "קוּמְקוּם חשמלי 1.7 ליטר",
    "Greek": "Βραστήρας ΝΕΡΟΎ ανοξείδωτος",
    "Turkish": "Çelik çaydanlık, büyük boy",
    "Vietnamese": "Ấm đun nước siêu tốc 1,8 lít",
    "full-width": "Ｔｅａ　Ｐｏｔ　６００ｍｌ",
    "signs": "Teapot™ ½ inch lid, 0.5 ㎡ mat, ☕ ready",
}

QUOTED = [
    ("Chinese", "养生壶"),
    ("Chinese", "1.5升"),
    ("Chinese", "全自动玻璃"),
    ("Chinese, traditional", "大容量"),
    ("Chinese, traditional", "４５０ＭＬ"),
    ("Japanese", "ステンレス製"),
    ("Japanese", "一人暮らし"),
    ("Japanese", "0.8L"),
    ("half-width", "デジタル温度計"),
    ("Korean", "보온병"),
    ("Korean", "직장인"),
    ("Thai", "เหล็กหล่อ"),
    ("Thai", "28 ซม"),
    ("Lao", "ໄຟຟ້າ"),
    ("Khmer", "អគ្គិសនី"),
    ("Burmese", "ထမင်း"),
    ("Hindi", "प्रेशर कुकर"),
    ("Hindi", "5 लीटर"),
    ("Tamil", "குத்துவிளக்கு"),
    ("Arabic", "زجاجي"),
    ("Arabic", "600 مل"),
    ("Persian", "شیشه‌ای"),
    ("Persian", "1200"),
    ("Hebrew", "קומקום"),
    ("Greek", "βραστήρας νερού"),
    ("Turkish", "BÜYÜK boy"),
    ("Vietnamese", "siêu tốc"),
    ("full-width", "Tea Pot"),
    ("full-width", "600ml"),
    ("signs", "teapot"),
    ("signs", "1/2 inch"),
    ("signs", "m2 mat"),
    ("signs", "☕"),
]

NOT_QUOTED = [
    ("Chinese", "养生杯"),
    ("Chinese", "壶养生"),
    ("Chinese", "5升半"),
    ("Japanese", "ステンレス鋼"),
    ("Thai", "เหล็กดำ"),
    ("Hindi", "प्रेशर पैन"),
    ("Hindi", "कु"),
    ("Arabic", "زجاج"),
    ("full-width", "Pot 60"),
    ("signs", "☕☕"),
    ("signs", "🔥"),
    ("signs", "…!"),
    ("signs", ""),
]


def read_title(name: str) -> Product:
    return read_product({"title": TITLES[name], "brand": None, "category": None, "description": None})


@pytest.mark.parametrize(("name", "quotation"), QUOTED)
def test_a_quotation_counts_in_every_script(name: str, quotation: str) -> None:
    text = QuotableText(read_title(name).text)
    for form in ("NFC", "NFD", "NFKC"):
        assert text.holds_quotation(unicodedata.normalize(form, quotation)), form


def test_a_turkish_capital_is_its_small_letter() -> None:
    text = QuotableText("İSTANBUL Çayı")
    assert text.holds_quotation("istanbul çayı")
    assert text.holds_quotation("İstanbul")


@pytest.mark.parametrize(("name", "quotation"), NOT_QUOTED)
def test_what_is_not_there_is_not_quoted(name: str, quotation: str) -> None:
    assert not QuotableText(read_title(name).text).holds_quotation(quotation)


@given(st.text(st.characters(codec="utf-8")), st.data())
def test_any_text_quotes_itself_and_its_words(text: str, data: st.DataObject) -> None:
    words = split_words(text)
    if words:
        start = data.draw(st.integers(0, len(words) - 1))
        end = data.draw(st.integers(start + 1, len(words)))
        assert QuotableText(text).holds_quotation(" ".join(words[start:end]))
        assert QuotableText(text).holds_quotation(text)
    assert fold_words(" ".join(words)) == fold_words(text)


@given(st.text(st.characters(max_codepoint=127)))
def test_words_of_ascii_texts_are_as_they_were(text: str) -> None:
    assert split_words(text) == re.findall(r"\w+", text.casefold())
    assert fold_widths(text) == text.lower()


@pytest.mark.parametrize("name", TITLES)
def test_the_team_keeps_what_a_teacher_quotes(
    name: str, write_dataset: Any, scripted: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    quotations = [quotation for title, quotation in QUOTED if title == name]
    false_quotations = [words for title, words in NOT_QUOTED if title == name and words]
    claims = [
        {"text": f"claim {number}", "evidence": words, "source": "catalogue", "confidence": 0.9}
        for number, words in enumerate([*quotations, *false_quotations])
    ]

    def answer(request: TeacherRequest) -> TeacherResponse:
        given_input = request.agent_input
        facets = {
            facet: []
            for facet in request.answer_type.model_fields
            if facet not in ("reasoning", "recognized", "summary")
        }
        if isinstance(given_input, CategoryBrief):
            fields: dict[str, Any] = {"product_kind": "pot", "focus": [], "pitfalls": []}
        elif isinstance(given_input, ReviewedDraft):
            fields = {"record": given_input.record.model_dump(mode="json")}
        elif isinstance(given_input, RecordDraft):
            fields = {"objections": []}
        elif request.answer_type is DemandFindings:
            fields = facets | {"recognized": True, "summary": "s", "demands": claims}
        else:
            fields = facets | {"recognized": True}
        return TeacherResponse(0, json.dumps({"reasoning": "r", **fields}))

    monkeypatch.setattr(distill, "build_teacher", lambda config: scripted(answer))
    dataset = write_dataset([{"item_id": "1", "title": TITLES[name], "category": "壶 > Töpfe"}])
    distill.distill_knowledge(dataset, KnowledgeConfig(), cache=tmp_path / "cache", out=tmp_path / "out")
    (row,) = read_table(tmp_path / "out/knowledge.parquet", KNOWLEDGE).to_dicts()
    assert [claim["evidence"] for claim in row["demands"]] == quotations


def test_agents_read_every_script_as_it_is() -> None:
    plan = CategoryPlan(reasoning="r", product_kind="k", focus=(), pitfalls=())
    for name, title in TITLES.items():
        assignment = AnalystAssignment(product=read_title(name), plan=plan)
        content = render_chat_messages("demand_analyst", assignment, DEMAND_ANALYST.answer_type)[1]["content"]
        assert unicodedata.normalize("NFC", title).replace("\u3000", " ") in content


def test_joiners_stay_in_words_and_nowhere_else() -> None:
    def clean(title: str) -> str:
        return read_product({"title": title, "brand": None, "category": None, "description": None}).title

    for title in ("شیشه\u200cای", "ශ්\u200dරී ලංකා", "👩\u200d🍳 apron", "क्\u200dष"):
        assert clean(title) == title
    assert clean("tea\u200dpot") == "tea pot"
    assert clean("ไ\u200bทย\u200d") == "ไ ทย"
    assert clean("壶\u200c\u200d\u200c\u200d杯") == "壶 杯", "a run of joiners writes nothing but secrets"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("小熊养生壶1.5L", ["小熊", "熊养", "养生", "生壶", "1.5l"]),
        ("USB-C接口", ["usb-c", "接口"]),
        ("Ｔｅａ ６００ｍｌ 茶", ["tea", "600ml", "茶"]),
        ("หม้อ", ["หม้", "ม้อ"]),
        ("प्रेशर कुकर ५", ["प्रेशर", "कुकर", "5"]),
        ("brand:小熊 Töpfe", ["brand:小熊", "töpfe"]),
    ],
)
def test_exact_words_of_every_script(text: str, words: list[str]) -> None:
    assert list(split_unspaced_runs(re.findall(WORD_PATTERN, fold_widths(text)))) == words


KETTLES = ["电热水壶", "玻璃养生壶", "不锈钢电热水壶", "陶瓷茶壶", "玻璃茶壶套装"]
LAMPS = ["护眼台灯", "卧室床头台灯", "可充电护眼台灯", "学习台灯", "充电夜灯"]


def test_titles_without_spaces_are_near_those_that_share_a_part() -> None:
    titles = [f"{title}{number}" for title in KETTLES + LAMPS for number in ("１", "2")] + ["x y"] * 30
    vectorizer = WordVectorizer.fit_texts(titles, longest_run=2, max_axes=16, seed=0)
    kettle, other_kettle, lamp = vectorizer.vectorize_texts(["特价电热水壶", "电热水壶1", "护眼台灯"])
    assert kettle @ other_kettle > 0.7
    assert abs(kettle @ lamp) < 0.3


def test_queries_are_split_as_titles_are() -> None:
    """The gateway looks words up without scikit-learn."""
    titles = [*TITLES.values(), *KETTLES, *LAMPS] * 2
    vectorizer = WordVectorizer.fit_texts(titles, longest_run=2, max_axes=30, seed=0)
    rows = {word: row for row, word in enumerate(vectorizer.vocabulary)}
    axes = vectorizer.weights[:, None] * vectorizer.axes
    directions = WordDirections("words", 2, re.compile(WORD_PATTERN), rows, axes)
    np.testing.assert_allclose(directions.place_texts(titles), vectorizer.vectorize_texts(titles), atol=1e-5)


def test_titles_that_the_default_encoder_cannot_read_are_told() -> None:
    assert measure_other_scripts(["Töpfe", "Ｔｅａ ６", "12", ""]) == 0
    assert measure_other_scripts(["大容量玻璃茶壶 Acme", "Tea 茶", "चाय", "tea"]) == 0.5
    (line,) = describe_unknown_scripts(TITLES.values(), EmbeddingConfig())
    assert "multilingual" in line
    assert not describe_unknown_scripts(TITLES.values(), EmbeddingConfig(encoder="some/other"))
    assert not describe_unknown_scripts(["Tea pot"] * 20 + ["茶壶"], EmbeddingConfig())


@pytest.fixture
def multilingual_encoder(tmp_path: Path) -> Path:
    """A tiny encoder with random weights that has a token for every letter of the titles."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from tokenizers import Regex, Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Split
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    letters = sorted(set("".join([*TITLES.values(), *KETTLES, *LAMPS])))
    tokens = ["[PAD]", "[UNK]", *letters]
    tokenizer = Tokenizer(WordLevel({token: number for number, token in enumerate(tokens)}, "[UNK]"))
    tokenizer.pre_tokenizer = Split(Regex("."), "isolated")
    folder = str(tmp_path / "bert")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", model_max_length=64
    ).save_pretrained(folder)
    size = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(tokens), **size)).save_pretrained(folder)
    encoder = tmp_path / "encoder"
    SentenceTransformer(modules=[Transformer(folder), Pooling(32)]).save(str(encoder))
    return encoder


def test_a_multilingual_encoder_is_a_matter_of_configuration(
    multilingual_encoder: Path, write_dataset: Any, tmp_path: Path
) -> None:
    titles = [*TITLES.values(), *KETTLES, *LAMPS]
    dataset = write_dataset([{"item_id": str(n), "title": title} for n, title in enumerate(titles)])
    knowledge = tmp_path / "knowledge"
    distill.distill_knowledge(dataset, KnowledgeConfig(), cache=tmp_path / "cache", out=knowledge)
    config = EmbeddingConfig.model_validate(
        {"encoder": str(multilingual_encoder), "dimension": 16, "contrast": {"epochs": 0, "num_folds": 0}}
    )
    embed_items(dataset, knowledge, config, out=tmp_path / "space")
    lineage = read_lineage(tmp_path / "space")
    assert lineage.metrics["query_encoder"] == 0, "as docs/how-to/choose-a-text-encoder.md says"
    query, other = embed_queries(tmp_path / "space", ["特价电热水壶", "护眼台灯"])
    frame = read_table(tmp_path / "space/item_embeddings.parquet", ITEM_EMBEDDINGS)
    vectors = dict(zip(titles, frame["embedding"].to_numpy(), strict=True))
    assert query @ vectors["电热水壶"] > other @ vectors["电热水壶"]
