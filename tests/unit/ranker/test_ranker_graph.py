"""What makes scoring fast must not change what is computed."""

from pathlib import Path

import onnx
import torch

from models.ranker.inputs.ranker_spec import MODEL_FILE
from models.ranker.network.score_tower import RankerLogits, compute_order_logit
from models.ranker.network.target_attention import MASKED, SimilarityHistogram, TargetAttention


def test_a_histogram_counts_by_gaussian_kernels() -> None:
    """The factored exponentials are those of the definition, for any cosine, and no sum overflows."""
    histogram = SimilarityHistogram(num_aspects=2, num_gates=3)
    similarity = torch.rand(4, 2, 7, 5) * 2 - 1
    gates = torch.rand(4, 2, 3, 7)
    computed_features = histogram(similarity, torch.ones(4, 7), gates)
    centers = torch.linspace(-0.1, 1.0, 12)[:, None, None]
    kernels = torch.exp(-0.5 * ((similarity.unsqueeze(2) - centers) / 0.1) ** 2)
    counts = torch.einsum("bsgh,bsnhc->bsngc", gates, kernels)
    torch.testing.assert_close(
        computed_features[:, :-2], torch.sqrt(counts + 0.01).flatten(1, 3), atol=1e-4, rtol=1e-4
    )
    torch.testing.assert_close(computed_features[:, -2:], similarity.amax(2))
    assert torch.isfinite(histogram(50 * similarity, torch.ones(4, 7), gates)).all()


def test_an_order_is_a_click_and_a_conversion() -> None:
    click, conversion = torch.randn(2, 50, dtype=torch.float64).mul(3)
    order_probability = torch.sigmoid(compute_order_logit(RankerLogits(click, conversion, None, None)))
    torch.testing.assert_close(order_probability, torch.sigmoid(click) * torch.sigmoid(conversion))
    extremes = torch.tensor([-200.0, 200.0])
    assert torch.isfinite(compute_order_logit(RankerLogits(extremes, extremes.flip(0), None, None))).all()


def test_attention_is_a_softmax_and_its_log_sum() -> None:
    attention = TargetAttention(16, 2, num_aspects=1)
    candidates, behaviors, similarity = torch.randn(3, 4, 16), torch.randn(3, 6, 16), torch.rand(3, 1, 6, 4)
    bias = torch.randn(3, 6, 2)
    bias[1, 4:] = MASKED
    bias[2] = MASKED
    read, mass = attention(candidates, behaviors, bias, similarity)
    assert attention.similarity_weight is not None
    query, key, value = (
        projected.unflatten(-1, (2, 8))
        for projected in (attention.query(candidates), attention.key(behaviors), attention.value(behaviors))
    )
    logits = torch.einsum("bcae,bhae->bcha", query, key) / 8**0.5 + bias.unsqueeze(1)
    logits = logits + 10 * similarity[:, 0].transpose(1, 2).unsqueeze(-1) * attention.similarity_weight[0]
    expected = torch.einsum("bcha,bhae->bcae", torch.softmax(logits, 2), value).flatten(2)
    torch.testing.assert_close(read[:2], expected[:2])
    torch.testing.assert_close(mass[:2], torch.logsumexp(logits, 2)[:2])
    assert (read[2] == 0).all()
    assert (mass[2] == mass[2, 0]).all()


def test_the_graph_computes_no_shapes(ranker: Path) -> None:
    operations = {node.op_type for node in onnx.load(ranker / MODEL_FILE).graph.node}
    assert not operations & {"Shape", "ConstantOfShape", "Expand"}
