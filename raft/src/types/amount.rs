use serde::{Deserialize, Serialize};
use std::fmt;

/// An amount in millisatoshi. Arithmetic is checked; there is no other.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Msat(pub u64);

impl Msat {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// The sum, or `None` if it does not fit.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference, or `None` if `other` is greater.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// The product, or `None` if it does not fit.
    #[must_use]
    pub fn checked_mul(self, factor: u64) -> Option<Self> {
        self.0.checked_mul(factor).map(Self)
    }

    /// `base + self * ppm / 1_000_000`, the fee of a hop for forwarding this amount (BOLT 7), or `None` if
    /// it does not fit.
    #[must_use]
    pub fn hop_fee(self, base: Self, ppm: u32) -> Option<Self> {
        let proportional = u128::from(self.0).checked_mul(u128::from(ppm))?.checked_div(1_000_000)?;
        Self(u64::try_from(proportional).ok()?).checked_add(base)
    }
}

impl fmt::Display for Msat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} msat", self.0)
    }
}

impl fmt::Debug for Msat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_never_wraps() {
        assert_eq!(Msat(u64::MAX).checked_add(Msat(1)), None);
        assert_eq!(Msat(1).checked_sub(Msat(2)), None);
        assert_eq!(Msat(u64::MAX).checked_mul(2), None);
        assert_eq!(Msat(u64::MAX).hop_fee(Msat(0), u32::MAX), None);
        assert_eq!(Msat(1_000_000).hop_fee(Msat(1), 100), Some(Msat(101)));
    }
}
