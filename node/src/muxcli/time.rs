//! Times as people read them: UTC, to the second.

/// `2026-02-03 04:05:06Z`; `-` for 0, which stands for "not yet".
pub(super) fn format_ms(ms: u64) -> String {
    if ms == 0 {
        return "-".into();
    }
    let seconds = ms / 1_000;
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}Z", rest / 3_600, rest / 60 % 60, rest % 60)
}

/// Year, month and day of a day since 1970-01-01, by eras of 400 years that begin in March.
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_TO_1970: u64 = 719_468;
    const ERA_DAYS: u64 = 146_097;
    let days = days.saturating_add(DAYS_TO_1970);
    let (era, day_of_era) = (days / ERA_DAYS, days % ERA_DAYS);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::format_ms;

    #[test]
    fn dates_are_right() {
        assert_eq!(format_ms(0), "-");
        assert_eq!(format_ms(1_000), "1970-01-01 00:00:01Z");
        assert_eq!(format_ms(951_782_400_000), "2000-02-29 00:00:00Z");
        assert_eq!(format_ms(1_700_000_000_999), "2023-11-14 22:13:20Z");
        assert_eq!(format_ms(4_107_542_399_000), "2100-02-28 23:59:59Z");
        assert_eq!(format_ms(4_107_542_400_000), "2100-03-01 00:00:00Z");
    }
}
