"""From a served score back to what made it, and from an item forward to where it was shown.

Everything is read from what a run leaves: the event log, the installed rankers with their lineage files, and
the artifacts under `steps/`. A part that is gone is named as gone, and the rest is told.
"""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, Final

import polars as pl

from contracts.artifacts import Lineage, read_lineage
from contracts.digests import LINEAGE_FILE
from contracts.errors import UserError
from models.knowledge.distillation.product_text import escape_control_chars
from serving.config import ServingConfig
from serving.deployment.routes import ROUTES_FILE, read_routes
from serving.event_log.log_tables import read_exposures, read_outcomes

_KNOWLEDGE_FILE: Final = "knowledge.parquet"
_ITEM_FILES: Final = {"dataset": "items.parquet", "knowledge": _KNOWLEDGE_FILE}
_MAX_REQUESTS: Final = 5
_LABELS_FIRST: Final = ("teacher", "prompt_version", "space", "data_digest", "cutoff")


class LineageTrace:
    """What one run folder can tell."""

    def __init__(self, home: Path) -> None:
        """Reads nothing yet.

        Args:
            home: the run's folder.
        """
        self._home = home
        self._state = home / "serving"

    def describe(self, subject: str) -> str:
        """Tells of a request, a ranker (name, version, arm or `champion`) or an item, as plain text.

        Raises:
            UserError: nothing here has that name.
        """
        for tell in (self._describe_model, self._describe_request, self._describe_item):
            lines = list(tell(subject))
            if lines:
                return "\n".join(escape_control_chars(line) for line in lines)
        raise UserError(
            f"no ranker, request or item '{escape_control_chars(subject)}' in {self._home}; rankers are "
            f"{', '.join(self._list_rankers()) or 'none'}, requests are named in answers of /rank"
        )

    def _describe_model(self, subject: str) -> Iterator[str]:
        name = self._find_ranker(subject)
        if name is None:
            return
        lineage = read_lineage(self._rankers_folder / name)
        arms = [arm for arm, model in self._read_arms().items() if model == name]
        yield f"ranker {name}" + (f", answers arm {', '.join(arms)}" if arms else ", out of service")
        yield from self._describe_chain(lineage)
        shown = self._read_exposures().filter(pl.col("model_version").is_in(self._list_versions(name)))
        if len(shown):
            yield f"shown: {_count_pages(shown)}"

    def _describe_request(self, subject: str) -> Iterator[str]:
        rows = self._read_exposures().filter(pl.col("request_id") == subject).sort("position")
        if rows.is_empty():
            return
        first = rows.row(0, named=True)
        yield (
            f"request {subject}: user {first['user_id']}, {first['timestamp']:%Y-%m-%d %H:%M:%S} UTC, arm "
            f"{first['arm']}"
        )
        if first["model_version"] != first["routed_version"]:
            yield f"scored by {first['model_version']}, though routed to {first['routed_version']}"
        name = self._find_ranker(first["routed_version"])
        lineage = read_lineage(self._rankers_folder / name) if name else None
        # The knowledge that this ranker was made with, not what is newest.
        chain = set(lineage.chain) if lineage else set()
        records = self._read_item_facts(rows["item_id"].to_list(), digests=chain)
        for row in rows.iter_rows(named=True):
            flags = f"  without {', '.join(row['degraded'])}" if row["degraded"] else ""
            fact = records.get(row["item_id"], "")
            yield f"  {row['position'] + 1:>3}. {row['item_id']}  score {row['score']:.4f}{flags}{fact}"
        if lineage is None:
            yield f"ranker {first['routed_version']}: no longer installed, so its lineage is gone"
            return
        yield f"ranker {name}"
        yield from self._describe_chain(lineage)

    def _describe_item(self, subject: str) -> Iterator[str]:
        facts = self._read_item_facts([subject])
        shown = self._read_exposures().filter(pl.col("item_id") == subject)
        if not facts and shown.is_empty():
            return
        yield f"item {subject}{facts.get(subject, '  in no catalogue of this run')}"
        for kind, lineage in self._find_newest_artifacts().items():
            if kind in ("dataset", "knowledge", "item_embeddings"):
                yield _describe_artifact(kind, lineage.digest, lineage.model_dump(mode="json"))
        if shown.is_empty():
            yield "shown: never"
            return
        outcomes = read_outcomes(self._state / "events").filter(pl.col("item_id") == subject)
        for (arm, version), rows in shown.group_by("arm", "model_version", maintain_order=True):
            reactions = outcomes.join(rows, on=["request_id", "item_id"], how="semi")
            yield (
                f"shown in arm {arm} by {str(version)[:16]}: {_count_pages(rows)}, mean place "
                f"{float(rows['position'].cast(pl.Float64).to_numpy().mean()) + 1:.1f}, "
                f"{int(reactions['click'].sum())} clicks, {int(reactions['order'].sum())} orders"
            )
        latest = shown.sort("timestamp", descending=True).head(_MAX_REQUESTS)
        yield f"latest requests: {', '.join(latest['request_id'])}"

    def _describe_chain(self, lineage: Lineage) -> Iterator[str]:
        """The artifact, then all that it was made from, the newest first."""
        yield _describe_artifact(lineage.kind, lineage.digest, lineage.model_dump(mode="json"))
        parents = sorted(lineage.chain.items(), key=lambda pair: str(pair[1].get("created_at")), reverse=True)
        for digest, parent in parents:
            yield _describe_artifact(str(parent.get("kind")), digest, parent)

    def _read_item_facts(
        self, item_ids: list[str], *, digests: AbstractSet[str] = frozenset()
    ) -> dict[str, str]:
        """Item -> title, and whose knowledge of it there is; from artifacts of these digests, if they are
        there."""
        facts: dict[str, str] = dict.fromkeys(item_ids, "")
        known: set[str] = set()
        for kind, file_name in _ITEM_FILES.items():
            path = self._find_newest_file(kind, file_name, digests)
            if path is None:
                continue
            rows = pl.scan_parquet(path).filter(pl.col("item_id").is_in(item_ids)).collect()
            for row in rows.iter_rows(named=True):
                known.add(row["item_id"])
                facts[row["item_id"]] += (
                    f"  {row['title']}"
                    if kind == "dataset"
                    else f"  [knowledge {row['status']} by {row['teacher']}, prompts "
                    f"{row['prompt_version'][:12]}, source {row['source_digest'][:12]}]"
                )
        return {item_id: facts[item_id] for item_id in item_ids if item_id in known}

    def _find_newest_file(self, kind: str, file_name: str, digests: AbstractSet[str]) -> Path | None:
        candidates = [
            (lineage.digest in digests, lineage.created_at, path.parent / file_name)
            for path in self._home.glob(f"steps/*/*/*/{LINEAGE_FILE}")
            if (path.parent / file_name).is_file() and (lineage := read_lineage(path.parent)).kind == kind
        ]
        return max(candidates)[2] if candidates else None

    def _find_newest_artifacts(self) -> dict[str, Lineage]:
        """Kind -> the newest artifact of that kind."""
        newest: dict[str, Lineage] = {}
        for path in self._home.glob(f"steps/*/*/*/{LINEAGE_FILE}"):
            lineage = read_lineage(path.parent)
            if lineage.kind not in newest or newest[lineage.kind].created_at < lineage.created_at:
                newest[lineage.kind] = lineage
        return newest

    @property
    def _rankers_folder(self) -> Path:
        return ServingConfig().in_folders(self._state).rankers_folder

    def _list_rankers(self) -> list[str]:
        return sorted(path.parent.name for path in self._rankers_folder.glob(f"*/{LINEAGE_FILE}"))

    def _read_arms(self) -> dict[str, str]:
        if not (self._state / ROUTES_FILE).is_file():
            return {}
        routes = read_routes(self._state)
        arms = {name: arm.model for name, arm in routes.arms.items()}
        return arms | ({"champion": routes.champion} if routes.champion else {})

    def _find_ranker(self, subject: str) -> str | None:
        """Name of an installed ranker: by name, by the beginning of its version, or by arm."""
        rankers = self._list_rankers()
        named = self._read_arms().get(subject, subject)
        if named in rankers:
            return named
        by_version = [name for name in rankers if subject and subject in self._list_versions(name)]
        return by_version[0] if by_version else None

    def _list_versions(self, name: str) -> list[str]:
        """Names under which a ranker stands in the log and in lineage files."""
        from models.ranker.inputs.ranker_spec import SPEC_FILE, RankerSpec

        folder = self._rankers_folder / name
        versions = [RankerSpec.read(folder).version] if (folder / SPEC_FILE).is_file() else []
        return [*versions, read_lineage(folder).digest]

    def _read_exposures(self) -> pl.DataFrame:
        return read_exposures(self._state / "events")


def _describe_artifact(kind: str, digest: str, lineage: Mapping[str, Any]) -> str:
    labels = dict(lineage.get("labels") or {})
    ordered = [name for name in _LABELS_FIRST if name in labels]
    ordered += sorted(labels.keys() - set(ordered))
    label_text = "".join(f"  {name} {labels[name]}" for name in ordered)
    made = str(lineage.get("created_at"))[:16].replace("T", " ")
    return f"  {kind}  {digest}  made {made}  code {lineage.get('code_version')}{label_text}"


def _count_pages(rows: pl.DataFrame) -> str:
    days = rows.select(pl.col("timestamp").dt.date().cast(pl.String)).to_series().sort()
    return f"{rows['request_id'].n_unique():,} requests, {days[0]} to {days[-1]}"
