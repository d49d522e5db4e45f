//! Amounts as people write them: always with their unit.

use mux_raft::types::Msat;

const MSAT_PER_SAT: u64 = 1_000;
const MSAT_PER_BTC: u64 = 100_000_000_000;

/// `2500sat`, `1000msat`, `0.001btc`; the unit is required, fractions are exact or refused.
///
/// # Errors
/// A text for the person who typed it.
pub fn parse_amount(text: &str) -> Result<Msat, String> {
    let at = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(|| unit_missing(text))?;
    let (number, unit) = text.split_at(at);
    let factor = match unit.to_ascii_lowercase().as_str() {
        "msat" => 1,
        "sat" | "sats" => MSAT_PER_SAT,
        "btc" => MSAT_PER_BTC,
        other => return Err(format!("{other:?} is no unit: use msat, sat or btc")),
    };
    let number = number.trim().replace(['_', ','], "");
    let (whole, fraction) = number.split_once('.').unwrap_or((&number, ""));
    let whole: u64 = if whole.is_empty() && !fraction.is_empty() { Ok(0) } else { whole.parse() }
        .map_err(|_| format!("{text:?} is no amount"))?;
    let amount_msat = whole.checked_mul(factor).zip(fraction_msat(fraction, factor));
    let amount_msat = amount_msat.and_then(|(whole, fraction)| whole.checked_add(fraction));
    amount_msat.map(Msat).ok_or_else(|| format!("{text:?} is no whole number of msat, or too much"))
}

/// Exactly that many msat, or `None`.
fn fraction_msat(digits: &str, factor: u64) -> Option<u64> {
    let digits = digits.trim_end_matches('0');
    if digits.is_empty() {
        return Some(0);
    }
    let scale = 10_u64.checked_pow(u32::try_from(digits.len()).ok()?)?;
    let scaled = digits.parse::<u64>().ok()?.checked_mul(factor)?;
    (scaled.checked_rem(scale)? == 0).then(|| scaled / scale)
}

fn unit_missing(text: &str) -> String {
    format!("{text:?} has no unit: write {text}sat or {text}msat")
}

/// `1,234.567 sat`.
#[must_use]
pub fn format_amount(amount_msat: u64) -> String {
    let (sats, rest) = (amount_msat / MSAT_PER_SAT, amount_msat % MSAT_PER_SAT);
    let digits = sats.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if rest == 0 { format!("{grouped} sat") } else { format!("{grouped}.{rest:03} sat") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_exactly_or_not_at_all() {
        for (text, msat) in [
            ("2500sat", 2_500_000),
            ("1,000 sats", 1_000_000),
            ("1msat", 1),
            ("0.001btc", 100_000_000),
            ("1.5sat", 1_500),
            (".5sat", 500),
            ("0sat", 0),
            ("21000000BTC", 2_100_000_000_000_000_000),
        ] {
            assert_eq!(parse_amount(text), Ok(Msat(msat)), "{text}");
        }
        for text in
            ["", "5", "1.0005sat", "0.5msat", "5eur", "sat", "-1sat", "1.sat2", "999999999999btc", "1e3sat"]
        {
            assert!(parse_amount(text).is_err(), "{text}");
        }
    }

    #[test]
    fn amounts_are_written_with_their_unit() {
        assert_eq!(format_amount(0), "0 sat");
        assert_eq!(format_amount(1), "0.001 sat");
        assert_eq!(format_amount(1_234_567), "1,234.567 sat");
        assert_eq!(format_amount(1_234_567_000), "1,234,567 sat");
    }
}
