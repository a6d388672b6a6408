"""The blocks of small random Hugging Face checkpoints, and of the real MiniLM, as the transformer."""

from pathlib import Path

import pytest
import torch
from behavior_shop import SMALL, BehaviorShop

from contracts.artifacts import read_lineage
from contracts.errors import UserError
from contracts.pretrained import MINILM
from models.behavior.config import BehaviorConfig, NetworkConfig
from models.behavior.network.backbone import PretrainedBackbone, build_backbone, read_architecture
from models.behavior.training.train_behavior_model import train_behavior_model

WIDTH, LENGTH = 8, 6


def write_checkpoint(folder: Path, kind: str) -> str:
    """A tiny random model of a kind, as `save_pretrained` leaves it."""
    from transformers import (
        BertConfig,
        BertModel,
        GPT2Config,
        GPT2Model,
        LlamaConfig,
        LlamaModel,
        T5Config,
        T5Model,
    )

    model_sizes = {"vocab_size": 11, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24}
    torch.manual_seed(0)
    random_model = {
        "bert": lambda: BertModel(BertConfig(**model_sizes, num_hidden_layers=3, max_position_embeddings=24)),
        "llama": lambda: LlamaModel(
            LlamaConfig(**model_sizes, num_hidden_layers=3, max_position_embeddings=24)
        ),
        "gpt2": lambda: GPT2Model(GPT2Config(vocab_size=11, n_embd=16, n_head=2, n_layer=3, n_positions=24)),
        "t5": lambda: T5Model(
            T5Config(vocab_size=11, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
        ),
    }[kind]()
    random_model.save_pretrained(folder)
    return str(folder)


def network(source: str, **changes: object) -> NetworkConfig:
    return NetworkConfig.model_validate({"dimension": WIDTH, "num_heads": 2, "pretrained": source, **changes})


def backbone(config: NetworkConfig) -> PretrainedBackbone:
    torch.manual_seed(1)
    backbone_module = build_backbone(config, LENGTH, read_architecture(config, LENGTH))
    assert isinstance(backbone_module, PretrainedBackbone)
    backbone_module.load_pretrained()
    return backbone_module.eval()


@pytest.mark.parametrize("kind", ["bert", "llama", "gpt2"])
def test_every_position_sees_all_others_and_no_padding(kind: str, tmp_path: Path) -> None:
    backbone_module = backbone(network(write_checkpoint(tmp_path, kind)))
    x = torch.randn(1, 4, WIDTH)
    is_valid = torch.ones(1, 4, dtype=torch.bool)
    with torch.no_grad():
        hidden_states = backbone_module(x, is_valid)
        changed_last = backbone_module(torch.cat([x[:, :-1], -x[:, -1:]], 1), is_valid)
        padded_hidden = backbone_module(
            torch.cat([torch.randn(1, 2, WIDTH), x], 1), torch.cat([~is_valid[:, :2], is_valid], 1)
        )
    assert (hidden_states[:, 0] - changed_last[:, 0]).abs().max() > 1e-5, (
        "the first position must see the last"
    )
    torch.testing.assert_close(padded_hidden[:, 2:], hidden_states, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["bert", "llama", "gpt2"])
def test_only_the_top_layers_are_trained(kind: str, tmp_path: Path) -> None:
    checkpoint_name = write_checkpoint(tmp_path, kind)
    for num_trainable in (0, 1, 99):
        backbone_module = backbone(network(checkpoint_name, trainable_layers=num_trainable))
        all_layers = max(
            (m for m in backbone_module.modules() if isinstance(m, torch.nn.ModuleList)), key=len
        )
        is_trained = [all(p.requires_grad for p in layer.parameters()) for layer in all_layers]
        assert is_trained == [layer_number >= 3 - num_trainable for layer_number in range(3)]
        assert all(p.requires_grad for p in backbone_module.enter.parameters())


def test_a_model_started_from_a_checkpoint_is_whole_without_it(shop: BehaviorShop, tmp_path: Path) -> None:
    checkpoint_name = write_checkpoint(tmp_path / "checkpoint", "llama")
    config = BehaviorConfig.model_validate(
        SMALL | {"network": network(checkpoint_name, trainable_layers=1).model_dump()}
    )
    train_behavior_model(*shop, config, checkpoints=tmp_path / "checkpoints", out=tmp_path / "model")
    (tmp_path / "checkpoint" / "model.safetensors").unlink()
    (tmp_path / "checkpoint" / "config.json").unlink()
    from models.behavior.inference.infer_behaviors import infer_behaviors

    infer_behaviors(*shop, tmp_path / "model", config, out=tmp_path / "inferred")
    assert read_lineage(tmp_path / "inferred").metrics["catalogue_validity"] == 1


def test_minilm_is_found_offline() -> None:
    config = network(MINILM)
    architecture_config = read_architecture(config, LENGTH)
    assert architecture_config is not None
    assert (
        architecture_config["model_type"],
        architecture_config["num_hidden_layers"],
        architecture_config["vocab_size"],
    ) == (
        "bert",
        6,
        1,
    )
    backbone_module = backbone(config)
    assert backbone_module(torch.randn(2, 3, WIDTH), torch.ones(2, 3, dtype=torch.bool)).shape == (
        2,
        3,
        WIDTH,
    )
    assert sum(p.numel() for p in backbone_module.parameters()) < 11_000_000, (
        "the word embeddings are left out"
    )


def test_unusable_checkpoints_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot load"):
        read_architecture(network(str(tmp_path / "nothing")), LENGTH)
    with pytest.raises(UserError, match="an encoder and a decoder"):
        read_architecture(network(write_checkpoint(tmp_path / "t5", "t5")), LENGTH)
    with pytest.raises(UserError, match="24 positions"):
        read_architecture(network(write_checkpoint(tmp_path / "bert", "bert")), 25)
