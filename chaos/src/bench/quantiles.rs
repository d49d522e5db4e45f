use serde::Serialize;

/// What many measurements come to, in milliseconds; by the nearest rank, so each was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Quantiles {
    /// How many there are.
    pub count: usize,
    /// Half are not above it.
    pub p50_ms: f64,
    /// 90 % are not.
    pub p90_ms: f64,
    /// 95 %.
    pub p95_ms: f64,
    /// 99 %.
    pub p99_ms: f64,
    /// The greatest.
    pub max_ms: f64,
}

impl Quantiles {
    /// Of microseconds, in any order.
    #[must_use]
    pub fn of(mut samples_us: Vec<u64>) -> Self {
        samples_us.sort_unstable();
        let at = |percent: usize| {
            let rank = (samples_us.len() * percent).div_ceil(100).max(1);
            samples_us.get(rank - 1).copied().map_or(0.0, ms)
        };
        Self {
            count: samples_us.len(),
            p50_ms: at(50),
            p90_ms: at(90),
            p95_ms: at(95),
            p99_ms: at(99),
            max_ms: at(100),
        }
    }
}

/// Microseconds in milliseconds.
#[allow(clippy::cast_precision_loss, reason = "2^53 µs are 285 years")]
pub(super) fn ms(us: u64) -> f64 {
    us as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        assert_eq!(Quantiles::of(Vec::new()), Quantiles::default());
        let all = Quantiles::of((1..=200).rev().map(|ms| ms * 1_000).collect());
        assert_eq!((all.count, all.p50_ms, all.p90_ms), (200, 100.0, 180.0));
        assert_eq!((all.p95_ms, all.p99_ms, all.max_ms), (190.0, 198.0, 200.0));
        assert_eq!(Quantiles::of(vec![7_500]).p50_ms, 7.5);
    }
}
