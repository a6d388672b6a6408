"""Prometheus series of the gateway; BentoML's `/metrics` shows them beside its own."""

from prometheus_client import Counter, Gauge, Histogram

_BUCKETS = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.5)

RANKED_TOTAL = Counter("reaseq_ranked_total", "Answered ranking requests.", ["arm", "model"])
DEGRADED_TOTAL = Counter("reaseq_degraded_total", "Ranking answers that did without a part.", ["reason"])
REFUSED_TOTAL = Counter("reaseq_refused_total", "Requests refused before their body was read.", ["status"])
EVENTS_TOTAL = Counter("reaseq_events_total", "Events written to the log.", ["event_type"])
UNSTREAMED_TOTAL = Counter("reaseq_unstreamed_total", "Events that did not enter an online history.")
SINK_WAITING_BYTES = Gauge("reaseq_event_sink_waiting_bytes", "Bytes that wait for the sink.")
RANK_SECONDS = Histogram(
    "reaseq_rank_seconds", "Time from a ranking request to its answer.", buckets=_BUCKETS
)
STAGE_SECONDS = Histogram(
    "reaseq_stage_seconds", "Time of each stage of a ranking.", ["stage"], buckets=_BUCKETS
)
