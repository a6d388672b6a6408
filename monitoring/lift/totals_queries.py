"""The SQL by which exposures and outcomes become sums per user, request and day."""

from typing import Final

MICROSECONDS_A_DAY: Final = 86_400_000_000
SHOWN_ITEMS: Final = """(
    SELECT hash(request_id) AS r, hash(item_id) AS i, hash(user_id) AS u, arms.a AS a,
        epoch_us(timestamp) AS micros, model_version <> routed_version AS by_other,
        len(degraded) > 0 AS degraded, list_contains(degraded, 'no_history') AS no_history, scene,
        trim(split_part(page_category, '>', 1)) AS category
    FROM exposures JOIN arms USING (arm)
)"""
FIND_COPIES: Final = f"""
CREATE TABLE first_copies AS
SELECT r, i, min(u) AS u, max(u) AS other_u, min(a) AS a, max(a) AS other_a, min(micros) AS micros,
    bool_or(by_other) AS by_other, bool_or(degraded) AS degraded, bool_or(no_history) AS no_history,
    any_value(scene) AS scene, any_value(category) AS category
FROM {SHOWN_ITEMS} GROUP BY r, i
"""  # noqa: S608
# Most of what is shown is left alone: only what was acted on is joined.
SUM_ACTS: Final = """
CREATE TABLE acts AS
SELECT hash(request_id) AS r, hash(item_id) AS i, count(*) AS copies, bool_or(click) AS click,
    bool_or("order") AS ordered, max(revenue) AS revenue, min(revenue) AS least_revenue,
    max(coalesce(orders_without_price, 0)) AS without_price
FROM outcomes WHERE click OR "order" OR revenue <> 0 GROUP BY ALL
"""
LIST_ITEMS: Final = """
CREATE VIEW items AS
SELECT shown.*, coalesce(click, false) AS click, coalesce(ordered, false) AS ordered, revenue,
    without_price
FROM {shown_items} AS shown LEFT JOIN acts ON shown.r = acts.r AND shown.i = acts.i
"""
SUM_REQUESTS: Final = f"""
CREATE TABLE requests AS
SELECT u, a, r, min(micros) AS micros, max(micros) AS last_micros,
    min(micros) // {MICROSECONDS_A_DAY} AS day, count(*) AS impressions,
    count(*) FILTER (click) AS clicks, count(*) FILTER (ordered) AS orders,
    coalesce(sum(revenue), 0) AS gmv,
    count(*) FILTER (ordered AND coalesce(revenue, 0) = 0) AS orders_without_revenue,
    coalesce(sum(without_price), 0) AS orders_without_price,
    count(*) FILTER (by_other) AS impressions_without_model,
    bool_or(degraded AND NOT no_history) AS degraded, bool_or(no_history) AS no_history,
    any_value(scene) AS scene, any_value(category) AS category
FROM items GROUP BY u, a, r
"""  # noqa: S608
# A user counts as having ordered once, however often.
TOTALS: Final = {
    "impressions": "sum(impressions)",
    "clicks": "sum(clicks)",
    "orders": "sum(orders)",
    "gmv": "sum(gmv)",
    "converted": "(sum(orders) > 0)::INTEGER",
}
MOMENTS: Final = (
    ", ".join(
        f"avg({name}) AS mean_{name}, var_samp({name}) AS var_{name}"
        for name in ("clicks", "orders", "gmv", "converted", "weight", "weighted_clicks")
    )
    + ", covar_samp(weighted_clicks, weight) AS cov"
)
SUM_USER_DAYS: Final = """
CREATE TABLE user_days AS
SELECT u, a, day, count(*) AS requests, sum(impressions) AS impressions, sum(clicks) AS clicks,
    sum(orders) AS orders, sum(gmv) AS gmv
FROM requests GROUP BY u, a, day
"""
MARK_BOTS: Final = """
CREATE TABLE bots AS SELECT DISTINCT u FROM (
    SELECT u, day, sum(requests) AS num_requests, sum(impressions) AS num_impressions,
        sum(clicks) AS num_clicks, sum(clicks) AS num_clicked_items
    FROM user_days GROUP BY u, day)
WHERE {is_bot_day};
CREATE TABLE comparable_users AS
SELECT u FROM user_days WHERE u NOT IN (SELECT u FROM bots) GROUP BY u HAVING count(DISTINCT a) = 1
"""
# A history without impressions still says which items were ever acted on.
SUM_ITEM_KINDS: Final = """
CREATE TABLE known_items AS
SELECT i FROM past_acts
WHERE event_type = 'impression' OR NOT (SELECT bool_or(event_type = 'impression') FROM past_acts)
GROUP BY i HAVING count(*) >= {cold_impressions};
CREATE TABLE item_sums AS
SELECT u, a, CASE WHEN known_items.i IS NULL THEN 'cold' ELSE 'known' END AS item_kind,
    count(*) AS impressions, count(*) FILTER (click) AS clicks, count(*) FILTER (ordered) AS orders,
    coalesce(sum(revenue), 0) AS gmv
FROM items LEFT JOIN known_items ON items.i = known_items.i GROUP BY ALL
UNION ALL
SELECT DISTINCT u, a, item_kind, 0, 0, 0, 0 FROM user_days, (VALUES ('cold'), ('known')) AS kinds (item_kind)
"""
SUM_USERS: Final = f"""
SELECT totals.u AS user, arm, {", ".join(TOTALS)}, bots.u IS NOT NULL AS is_bot
FROM (SELECT u, a, {", ".join(f"{total} AS {name}" for name, total in TOTALS.items())}
      FROM user_days GROUP BY u, a) AS totals
JOIN arms USING (a) LEFT JOIN bots USING (u)
ORDER BY arm, user
"""  # noqa: S608
COUNT_ARM_NOTES: Final = """
SELECT arm, coalesce(sum(orders_without_revenue) / nullif(sum(orders), 0), 0),
    sum(orders_without_price)::BIGINT, sum(impressions_without_model) / sum(impressions)
FROM requests JOIN arms USING (a) GROUP BY arm ORDER BY arm
"""
SLICES: Final = {
    "scene": "scene",
    "category": "category",
    "degraded": "CASE WHEN degraded THEN 'degraded' ELSE 'whole' END",
    "new_user": "CASE WHEN no_history THEN 'new user' ELSE 'known user' END",
}
SLICE_KINDS: Final = tuple(SLICES)
