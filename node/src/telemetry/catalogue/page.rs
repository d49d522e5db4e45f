use super::{CATALOGUE, Kind, Metric};
use std::fmt::Write as _;

const HEAD: &str = "# Metrics

What `GET /metrics` of a replica says (port `metrics.listen`). Made from `node/src/telemetry/catalogue/entries.rs` by
`MUX_WRITE_METRICS=1 cargo test -p muxd catalogue`; a test fails when it differs.

`node` is the configured alias of a front node, `peer` a replica's number, `method` one of the API's methods or
`other`. No label holds a payment hash, a peer's key or anything else that callers choose.

| name | type | unit | labels | meaning |
|---|---|---|---|---|
";

/// The catalogue for people.
#[must_use]
pub fn markdown() -> String {
    let mut text = HEAD.to_owned();
    for Metric { name, kind, unit, labels, help } in CATALOGUE {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        let unit = unit.map_or("", |unit| unit.as_str());
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| `{name}` | {kind} | {unit} | {} | {help} |", labels.join(", "));
    }
    text
}
