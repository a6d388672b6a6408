"""`reaseq rank` sends what its options say."""

import json

from reaseq import rank
from reaseq.cli import main


def test_the_context_of_a_request_is_sent(monkeypatch, capsys):
    posted = {}

    def note_post(url, path, body):
        posted.update(url=url, path=path, body=body)
        return {"items": []}

    monkeypatch.setattr(rank, "post_json", note_post)
    options = ["--scene", "similar", "--category", "A > B", "--query", "tent", "--seed-item", "i1"]
    assert main(["rank", "--user", "u", "--candidates", "a", "b", "--url", "http://there", *options]) == 0
    assert (posted["url"], posted["path"]) == ("http://there", "/rank")
    assert posted["body"]["candidates"] == ["a", "b"]
    assert posted["body"]["context"] == {
        "scene": "similar",
        "page_category": "A > B",
        "query": "tent",
        "seed_item_id": "i1",
        "device": None,
    }
    assert json.loads(capsys.readouterr().out) == {"items": []}
