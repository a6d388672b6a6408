"""A real causal language model as the behavior model's start: it must see both sides."""

from pathlib import Path

import pytest
import torch

from models.behavior.config import NetworkConfig
from models.behavior.network.backbone import PretrainedBackbone, build_backbone, read_architecture

pytestmark = pytest.mark.integration
MODEL = Path(__file__).parents[3] / "build/smollm2-135m"
WIDTH, LENGTH = 32, 6


def test_a_causal_model_sees_later_positions_and_no_padding() -> None:
    if not (MODEL / "model.safetensors").is_file():
        pytest.skip("there is no pretrained model: run scripts/make_smollm.sh")
    config = NetworkConfig(dimension=WIDTH, num_heads=2, pretrained=str(MODEL), trainable_layers=1)
    architecture = read_architecture(config, LENGTH)
    assert architecture is not None
    assert architecture["model_type"] == "llama"
    torch.manual_seed(0)
    backbone = build_backbone(config, LENGTH, architecture)
    assert isinstance(backbone, PretrainedBackbone)
    backbone.load_pretrained()
    backbone.eval()
    x, is_valid = torch.randn(1, 4, WIDTH), torch.ones(1, 4, dtype=torch.bool)
    with torch.no_grad():
        hidden = backbone(x, is_valid)
        changed_last = backbone(torch.cat([x[:, :-1], -x[:, -1:]], 1), is_valid)
        padded = backbone(
            torch.cat([torch.randn(1, 2, WIDTH), x], 1), torch.tensor([[False] * 2 + [True] * 4])
        )
    assert (hidden[:, 0] - changed_last[:, 0]).abs().max() > 1e-4, "the first position must see the last"
    torch.testing.assert_close(padded[:, 2:], hidden, rtol=1e-3, atol=1e-4)
