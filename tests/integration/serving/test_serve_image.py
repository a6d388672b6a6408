"""The gateway with the packages of the image `serve` alone: it needs no torch."""

import json
import os
import re
import urllib.request
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name
from served_shop import ITEMS, Served

from serving.deployment.deploy_rankers import deploy_rankers, load_routed_models
from serving.deployment.local_stack import start_gateway
from serving.triton.triton_server import start_triton

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[3]


def list_hidden_modules() -> set[str]:
    """Modules of all installed packages that requirements/serve.lock does not name."""
    text = (ROOT / "requirements/serve.lock").read_text()
    held = set(re.findall(r"^([a-z0-9][a-z0-9._-]*)==", text, flags=re.MULTILINE)) | {"reaseq", "pip"}
    owners = packages_distributions()
    return {
        module
        for module, names in owners.items()
        if module.isidentifier() and not {canonicalize_name(name) for name in names} & held
    }


def test_a_request_is_ranked_without_torch(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = list_hidden_modules()
    assert {"torch", "transformers", "kfp", "evidently", "openai", "sklearn"} <= hidden
    config = served.config
    deploy_rankers({"all": served.challenger}, config, state=config.state)
    hider = Path(__file__).with_name("serve_image")
    with start_triton(config.model_repository, config.triton, scratch=tmp_path / "triton"):
        load_routed_models(config)
        monkeypatch.setenv("PYTHONPATH", f"{hider}:{os.environ.get('PYTHONPATH', '')}")
        monkeypatch.setenv("HIDDEN_MODULES", ",".join(sorted(hidden)))
        with start_gateway(config) as gateway:
            gateway.wait_ready()
            request = urllib.request.Request(
                f"http://{config.gateway.host}:{config.gateway.port}/rank",
                json.dumps({"user_id": "user_0", "candidates": ITEMS}).encode(),
                {"content-type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=30) as response:
                answer = json.loads(response.read())
    assert answer["model_version"] != "fallback"
    assert not {"model", "feature_store"} & set(answer["degraded"])
    assert len(answer["items"]) == len(ITEMS)
