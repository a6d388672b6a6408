"""Settings of the feature store."""

from typing import Literal, Self

from pydantic import Field, model_validator

from contracts.config import Config


class FeatureStoreConfig(Config):
    """Where features live and how long they count."""

    project: str = Field(default="reaseq", pattern=r"^[a-z][a-z0-9_]*$")
    """Feast project: the name space of everything in the registry and in the online store."""
    history_length: int = Field(default=50, ge=1, le=10_000)
    """Behaviors kept per user, newest first."""
    online_store: Literal["sqlite", "redis"] = "sqlite"
    """Embedded default, or a Redis server."""
    redis_connection: str = "${REASEQ_REDIS}"
    """`host:port[,db=0][,password=...]`. An environment reference is resolved where the store is opened,
    so that neither the config nor the store's files hold a password."""
    ttl_days: float | None = Field(default=None, gt=0)
    """Older online values of a user count as missing; None keeps them for ever (to replay an old log)."""
    batch_rows: int = Field(default=5_000, ge=1)
    """Rows handled at a time by the joins and the writes: it bounds the memory."""
    processes: int = Field(default=1, ge=1)
    """Processes that materialize at once, each every n-th batch. SQLite takes one writer."""
    engine: Literal["local", "ray"] = "local"
    """`ray`: Feast's Ray engine writes first, by as many workers as `processes`, on the cluster that
    RAY_ADDRESS names or on this machine. Every row is compared and mended afterwards. Needs the extra
    `ray`, and Redis."""

    @model_validator(mode="after")
    def _check_sqlite_writers(self) -> Self:
        if self.online_store != "sqlite":
            return self
        if self.processes > 1:
            raise ValueError(
                f"processes = {self.processes}: SQLite takes one writer; use 1, or online_store = redis"
            )
        if self.engine != "local":
            raise ValueError(
                f"engine = {self.engine}: SQLite takes one writer; use local, or online_store = redis"
            )
        return self
