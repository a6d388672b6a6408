"""Glue of two rooms: the gateway's log (serving) becomes what monitoring compares."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import polars as pl

from components.traffic_events import gather_events
from contracts.artifacts import create_artifact, read_table, write_table, write_text
from contracts.dataset import read_dataset
from contracts.errors import UserError
from contracts.events.event_repeats import RepeatRuleConfig
from contracts.table_schema import UTC_TIME
from contracts.tables import ANSWERS, EVENTS, EXPOSURES, ITEM_EMBEDDINGS, OUTCOMES
from models.ranker.evaluation.drift_reference import REFERENCE_FILE
from models.ranker.inputs.ranker_spec import name_model
from monitoring.config import MonitoringConfig
from monitoring.dashboard.service_figures import ANSWERS_FILE
from monitoring.drift.served_features import SERVING_FEATURES, build_served_features
from monitoring.drift.window_selection import cut_to_page, split_served_windows
from monitoring.drift.window_tables import ReferenceNote
from serving.deployment.routes import Routes, read_routes
from serving.event_log.log_tables import read_answers, read_exposures, read_outcomes, read_teams

REFERENCES_FOLDER: Final = "drift_references"
"""In a workspace: what each ranker showed in its first days, with the features of that time."""


TEAMS_FILE: Final = "teams.parquet"
"""Whose pick each item of a shared page was; only there while rankers are interleaved."""


class FeatureFolders(NamedTuple):
    """Artifacts that pages are joined with."""

    dataset: Path
    item_embeddings: Path
    features: Path


def collect_traffic(
    dataset: Path,
    item_embeddings: Path,
    features: Path,
    evaluation: Path,
    config: MonitoringConfig,
    *,
    state: Path,
    repeats: RepeatRuleConfig,
    references: Path,
    out: Path,
) -> None:
    """Writes `exposures`, `outcomes`, and the serving features `reference` and `current` (Parquet).

    Beside them `answers` has how requests were answered, `events` what the experiment's users did meanwhile,
    and `history` what was done before.

    `reference.json` says what the reference is (`ReferenceNote`): the first days of the rankers in service
    or, before there are any, the top places of the evaluation's lists.

    Args:
        dataset: dataset artifact with the catalogue.
        item_embeddings: item embeddings in service.
        features: offline feature tables.
        evaluation: evaluation of the ranker in service; its scored test lists are the first reference.
        config: monitoring's configuration.
        state: serving's folder; what its event log holds of the rankers now routed is the current window.
        repeats: which events are one event that was sent again.
        references: folder where the first days of each ranker are kept, with the features of that time.
        out: the artifact to write.

    Raises:
        UserError: no experiment is running, or nobody was routed to its rankers yet.
    """
    routes, stored = read_routes(state), read_dataset(dataset)
    routed_exposures = select_routed_exposures(read_exposures(state / "events", only_drawn=True), routes)
    # An order that came without a price counts at the catalogue's.
    all_outcomes = read_outcomes(state / "events", items=stored.items, repeats=repeats)
    routed_outcomes = all_outcomes.join(routed_exposures, on=["request_id", "item_id"], how="semi")
    compared = select_compared_exposures(state, routes, routed_exposures)
    folders = FeatureFolders(dataset, item_embeddings, features)
    inputs = folders._asdict() | {"evaluation": evaluation}
    with create_artifact(out, kind="traffic", inputs=inputs) as artifact:
        write_table(artifact.path / "exposures.parquet", EXPOSURES, compared)
        compared_outcomes = routed_outcomes.join(compared, on=["request_id", "item_id"], how="semi")
        write_table(artifact.path / "outcomes.parquet", OUTCOMES, compared_outcomes)
        events = gather_events(
            compared,
            stored.events,
            stored.items,
            event_log=state / "events",
            repeats=repeats,
            history_days=config.history_days,
        )
        write_table(artifact.path / "events.parquet", EVENTS, events.meanwhile)
        write_table(artifact.path / "history.parquet", EVENTS, events.before)
        answers = select_rows_of_arms(read_answers(state / "events"), routes)
        write_table(artifact.path / ANSWERS_FILE, ANSWERS, answers)
        if any(arm.interleaved for arm in routes.arms.values()):
            teams = read_teams(state / "events", experiment_id=routes.experiment_id)
            teams.write_parquet(artifact.path / TEAMS_FILE)
        artifact.metrics["orders_without_price"] = float(routed_outcomes["orders_without_price"].sum())
        artifact.metrics["orders_of_unknown_revenue"] = routed_outcomes["revenue"].null_count()
        window_tables, note = _build_windows(
            leave_out_shared_pages(routed_exposures, state=state),
            routed_outcomes,
            folders,
            evaluation,
            config,
            references=references,
        )
        for window_name, window_table in window_tables.items():
            write_table(artifact.path / f"{window_name}.parquet", SERVING_FEATURES, window_table)
            artifact.metrics[f"{window_name}_rows"] = len(window_table)
        write_text(artifact.path / "reference.json", note.model_dump_json(indent=1))
        artifact.labels["reference"] = note.source


def _build_windows(
    exposures: pl.DataFrame,
    outcomes: pl.DataFrame,
    folders: FeatureFolders,
    evaluation: Path,
    config: MonitoringConfig,
    *,
    references: Path,
) -> tuple[dict[str, pl.DataFrame], ReferenceNote]:
    """SERVING_FEATURES of `reference` and `current`, and what the reference is."""
    num_items = len(read_dataset(folders.dataset).items)
    kept = _read_kept_references(references, exposures["routed_version"].unique().sort().to_list())
    ends = pl.concat(
        [
            table.select("routed_version", reference_end=pl.col("timestamp").max()).head(1)
            for table in kept.values()
        ]
        or [pl.DataFrame(schema={"routed_version": pl.String, "reference_end": UTC_TIME})]
    )
    windows = split_served_windows(exposures, config, reference_ends=ends if kept else None)
    if windows is not None:
        answering = windows.current["routed_version"].unique().sort().to_list()
        for version in answering:
            if version not in kept:
                first_pages = windows.reference.filter(pl.col("routed_version") == version)
                kept[version] = _join_features(first_pages, outcomes, folders, config)
                _keep_reference(references, version, kept[version])
        reference = pl.concat([kept[version] for version in answering])
        note = ReferenceNote(
            source="served",
            first=reference["timestamp"].min(),  # type: ignore[arg-type]
            last=reference["timestamp"].max(),  # type: ignore[arg-type]
            versions=tuple(answering),
            num_items=num_items,
            text="what the rankers in service showed in their first days",
        )
        current = _join_features(windows.current, outcomes, folders, config)
        return {"reference": reference, "current": current}, note
    lists = cut_to_page(read_table(evaluation / REFERENCE_FILE, EXPOSURES), exposures)
    note = ReferenceNote(
        source="evaluation",
        versions=tuple(lists["routed_version"].unique().sort()),
        num_items=num_items,
        text=f"no ranker has shown pages for {config.reference_days:g} days and longer",
    )
    return {
        "reference": _join_features(lists, None, folders, config),
        "current": _join_features(exposures, outcomes, folders, config),
    }, note


def _join_features(
    shown: pl.DataFrame, outcomes: pl.DataFrame | None, folders: FeatureFolders, config: MonitoringConfig
) -> pl.DataFrame:
    return build_served_features(
        shown,
        config,
        items=read_dataset(folders.dataset).items,
        item_embeddings=read_table(folders.item_embeddings / "item_embeddings.parquet", ITEM_EMBEDDINGS),
        user_behaviors=pl.read_parquet(folders.features / "user_behaviors.parquet"),
        inferred_behaviors=pl.read_parquet(folders.features / "inferred_behaviors.parquet"),
        outcomes=outcomes,
    )


def _read_kept_references(references: Path, versions: Sequence[str]) -> dict[str, pl.DataFrame]:
    """Version -> what it showed in its first days, of those that are kept."""
    paths = {version: references / f"{name_model(version)}.parquet" for version in versions}
    return {
        version: table
        for version, path in paths.items()
        if path.is_file()
        and (table := read_table(path, SERVING_FEATURES))["routed_version"].eq(version).all()
    }


def _keep_reference(references: Path, version: str, table: pl.DataFrame) -> None:
    """Keeps a ranker's first days: a feature that breaks later would else be broken in both windows."""
    references.mkdir(parents=True, exist_ok=True)
    write_table(references / f"{name_model(version)}.parquet", SERVING_FEATURES, table)


def select_compared_exposures(state: Path, routes: Routes, routed_exposures: pl.DataFrame) -> pl.DataFrame:
    """What the arms are compared by: all that their rankers showed in them or, once an experiment was
    started with a plan, what was shown since. Its arms were drawn anew: earlier pages would put users into
    two arms.

    Raises:
        UserError: nothing was shown since.
    """
    if routes.experiment_id is None:
        compared = select_rows_of_arms(routed_exposures, routes)
        if compared.is_empty():
            raise UserError("nobody was routed to the arms of now yet; send requests to the gateway first")
        return compared
    compared = read_exposures(state / "events", only_drawn=True, experiment_id=routes.experiment_id)
    if compared.is_empty():
        raise UserError(
            f"nobody saw experiment {routes.experiment_id} yet; send requests to the gateway first"
        )
    return compared


def select_routed_exposures(exposures: pl.DataFrame, routes: Routes) -> pl.DataFrame:
    """Keeps what was shown for the running experiment's rankers. Earlier experiments named their arms alike.

    Raises:
        UserError: no experiment is running, or nobody was routed to its rankers yet.
    """
    if len(routes.arms) < 2:
        raise UserError(
            f"no experiment is running: all see {', '.join(routes.model_names)}; deploy a challenger first"
        )
    # By whom they were routed to, not who scored: what a ranker left to the fallback counts for its arm.
    routed_exposures = exposures.filter(_name_routed_models(exposures).is_in(routes.model_names))
    if routed_exposures.is_empty():
        raise UserError(
            "nobody was routed to the running experiment's rankers yet; send requests to the gateway first"
        )
    return routed_exposures


def leave_out_shared_pages(exposures: pl.DataFrame, *, state: Path) -> pl.DataFrame:
    """Keeps pages of one ranker alone. Half of a shared page is another ranker's choice: it would look as if
    the first one had changed its mind.

    Raises:
        UserError: every page was shared.
    """
    own_pages = exposures.join(read_teams(state / "events"), on="request_id", how="anti")
    if own_pages.is_empty():
        raise UserError(
            "all pages so far were shared by two rankers (interleaving), and drift is told from pages of one "
            "ranker; give the control a share of the users"
        )
    return own_pages


def select_rows_of_arms(rows: pl.DataFrame, routes: Routes) -> pl.DataFrame:
    """Keeps rows of the arms that are routed now, by the rankers that these arms have now.

    An earlier experiment may have had the same arm with another ranker, or the same ranker in another arm.
    """
    models = _name_routed_models(rows)
    is_of_arm = [(pl.col("arm") == name) & models.is_in(arm.model_names) for name, arm in routes.arms.items()]
    return rows.filter(pl.any_horizontal(is_of_arm))


def _name_routed_models(rows: pl.DataFrame) -> pl.Expr:
    return pl.col("routed_version").replace(
        {version: name_model(version) for version in rows["routed_version"].unique()}
    )
