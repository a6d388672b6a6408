"""The blocks of small random Hugging Face checkpoints, and of the real MiniLM, as the denoiser's transformer."""

from pathlib import Path

import pytest
import torch
from behavior_shop import SMALL, Shop

from contracts.artifacts import read_lineage
from contracts.errors import UserError
from contracts.pretrained import MINILM
from models.behavior.backbone import Pretrained, build_backbone, read_architecture
from models.behavior.config import BehaviorConfig, NetworkConfig
from models.behavior.train import train_behavior_model

WIDTH, LENGTH = 8, 6


def write_checkpoint(folder: Path, kind: str) -> str:
    """A tiny random model of a kind, as `save_pretrained` leaves it."""
    from transformers import BertConfig, BertModel, GPT2Config, GPT2Model, LlamaConfig, LlamaModel, T5Config, T5Model

    sizes = {"vocab_size": 11, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24}
    torch.manual_seed(0)
    model = {
        "bert": lambda: BertModel(BertConfig(**sizes, num_hidden_layers=3, max_position_embeddings=24)),
        "llama": lambda: LlamaModel(LlamaConfig(**sizes, num_hidden_layers=3, max_position_embeddings=24)),
        "gpt2": lambda: GPT2Model(GPT2Config(vocab_size=11, n_embd=16, n_head=2, n_layer=3, n_positions=24)),
        "t5": lambda: T5Model(T5Config(vocab_size=11, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)),
    }[kind]()
    model.save_pretrained(folder)
    return str(folder)


def network(source: str, **changes: object) -> NetworkConfig:
    return NetworkConfig.model_validate({"dimension": WIDTH, "num_heads": 2, "pretrained": source, **changes})


def backbone(config: NetworkConfig) -> Pretrained:
    torch.manual_seed(1)
    blocks = build_backbone(config, LENGTH, read_architecture(config, LENGTH))
    assert isinstance(blocks, Pretrained)
    blocks.load_pretrained()
    return blocks.eval()


@pytest.mark.parametrize("kind", ["bert", "llama", "gpt2"])
def test_every_position_sees_all_others_and_no_padding(kind: str, tmp_path: Path) -> None:
    blocks = backbone(network(write_checkpoint(tmp_path, kind)))
    x = torch.randn(1, 4, WIDTH)
    valid = torch.ones(1, 4, dtype=torch.bool)
    with torch.no_grad():
        hidden = blocks(x, valid)
        later = blocks(torch.cat([x[:, :-1], -x[:, -1:]], 1), valid)
        padded = blocks(torch.cat([torch.randn(1, 2, WIDTH), x], 1), torch.cat([~valid[:, :2], valid], 1))
    assert (hidden[:, 0] - later[:, 0]).abs().max() > 1e-5, "the first position must see the last"
    torch.testing.assert_close(padded[:, 2:], hidden, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["bert", "llama", "gpt2"])
def test_only_the_top_layers_are_trained(kind: str, tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path, kind)
    for top in (0, 1, 99):
        blocks = backbone(network(source, trainable_layers=top))
        layers = max((m for m in blocks.modules() if isinstance(m, torch.nn.ModuleList)), key=len)
        trained = [all(p.requires_grad for p in layer.parameters()) for layer in layers]
        assert trained == [number >= 3 - top for number in range(3)]
        assert all(p.requires_grad for p in blocks.enter.parameters())


def test_a_model_started_from_a_checkpoint_is_whole_without_it(shop: Shop, tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "checkpoint", "llama")
    config = BehaviorConfig.model_validate(SMALL | {"network": network(source, trainable_layers=1).model_dump()})
    train_behavior_model(*shop, config, checkpoints=tmp_path / "checkpoints", out=tmp_path / "model")
    (tmp_path / "checkpoint" / "model.safetensors").unlink()
    (tmp_path / "checkpoint" / "config.json").unlink()
    from models.behavior.infer import infer_behaviors

    infer_behaviors(*shop, tmp_path / "model", config, out=tmp_path / "inferred")
    assert read_lineage(tmp_path / "inferred").metrics["catalogue_validity"] == 1


def test_minilm_is_found_offline() -> None:
    config = network(MINILM)
    architecture = read_architecture(config, LENGTH)
    assert architecture is not None
    assert (architecture["model_type"], architecture["num_hidden_layers"], architecture["vocab_size"]) == ("bert", 6, 1)
    blocks = backbone(config)
    assert blocks(torch.randn(2, 3, WIDTH), torch.ones(2, 3, dtype=torch.bool)).shape == (2, 3, WIDTH)
    assert sum(p.numel() for p in blocks.parameters()) < 11_000_000, "the word embeddings are left out"


def test_unusable_checkpoints_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot load"):
        read_architecture(network(str(tmp_path / "nothing")), LENGTH)
    with pytest.raises(UserError, match="an encoder and a decoder"):
        read_architecture(network(write_checkpoint(tmp_path / "t5", "t5")), LENGTH)
    with pytest.raises(UserError, match="24 positions"):
        read_architecture(network(write_checkpoint(tmp_path / "bert", "bert")), 25)
