"""Prometheus series of the gateway; BentoML's `/metrics` shows them beside its own."""

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.5)

RANKED = Counter("reaseq_ranked_total", "Answered ranking requests.", ["arm", "model"])
DEGRADED = Counter("reaseq_degraded_total", "Ranking answers that did without a part.", ["reason"])
REFUSED = Counter("reaseq_refused_total", "Requests that were sent away before their body was read.", ["status"])
EVENTS = Counter("reaseq_events_total", "Events written to the log.", ["event_type"])
UNSTREAMED = Counter("reaseq_unstreamed_total", "Events that are in the log but did not enter an online history.")
UNSENT = Gauge("reaseq_event_sink_waiting_bytes", "Bytes of the event log that the sink does not have yet.")
RANK_SECONDS = Histogram("reaseq_rank_seconds", "Time from a ranking request to its answer.", buckets=_SECONDS)
STAGE_SECONDS = Histogram("reaseq_stage_seconds", "Time of each stage of a ranking.", ["stage"], buckets=_SECONDS)
