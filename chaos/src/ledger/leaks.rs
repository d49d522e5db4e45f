//! Looks for secrets where none may be: logs, metrics pages.
//!
//! Every secret is looked for as raw bytes, hexadecimal (either case), base64 (either alphabet) and as a
//! list of decimal numbers (what `Debug` makes of bytes). One pass over a text finds all of them: the first
//! bytes of each spelling are looked up at every position. A finding names the secret and the place; it
//! never repeats the secret.

use super::check::Violation;
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use std::collections::{BTreeSet, HashMap};

/// Shorter ones would be found by chance.
const SECRET_LEN_MIN: usize = 16;

/// How many bytes of a spelling are looked up first.
const HEAD_LEN: usize = 8;

/// Number of bits of the mark that a head leaves in the sieve.
const MARK_BITS: u32 = 16;

/// One way to write one secret.
struct Spelling {
    secret: usize,
    form: &'static str,
    text: Vec<u8>,
}

/// See the [module](self). Not printable.
pub struct Secrets {
    names: Vec<String>,
    /// Whether any head has this mark; most positions of a text are passed over by it.
    sieve: Vec<bool>,
    by_head: HashMap<[u8; HEAD_LEN], Vec<Spelling>>,
}

impl Default for Secrets {
    fn default() -> Self {
        Self { names: Vec::new(), sieve: vec![false; 1 << MARK_BITS], by_head: HashMap::new() }
    }
}

/// A mark of the first four bytes; the multiplier spreads them over its high bits.
fn mark(head: &[u8; HEAD_LEN]) -> usize {
    let [a, b, c, d, ..] = *head;
    let spread = u32::from_le_bytes([a, b, c, d]).wrapping_mul(0x9e37_79b1);
    usize::try_from(spread >> (u32::BITS - MARK_BITS)).unwrap_or(0)
}

impl Secrets {
    /// Adds a secret, under a name that may be told. Those that chance would find are left out.
    pub fn add(&mut self, name: impl Into<String>, secret: &[u8]) {
        if secret.len() < SECRET_LEN_MIN {
            return;
        }
        let at = self.names.len();
        self.names.push(name.into());
        let decimal = secret.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
        for (form, text) in [
            ("raw bytes", secret.to_vec()),
            ("hexadecimal", hex::encode(secret).into_bytes()),
            ("hexadecimal", hex::encode_upper(secret).into_bytes()),
            ("base64", STANDARD_NO_PAD.encode(secret).into_bytes()),
            ("base64", URL_SAFE_NO_PAD.encode(secret).into_bytes()),
            ("decimal list", decimal.into_bytes()),
        ] {
            self.insert(Spelling { secret: at, form, text });
        }
    }

    fn insert(&mut self, spelling: Spelling) {
        if let Some(head) = spelling.text.first_chunk() {
            self.sieve[mark(head)] = true;
            self.by_head.entry(*head).or_default().push(spelling);
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// There are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Every secret that stands in the text, once per way it is written.
    #[must_use]
    pub fn found_in(&self, place: &str, text: &[u8]) -> Vec<Violation> {
        let mut seen = BTreeSet::new();
        let mut found = Vec::new();
        for (at, head) in text.windows(HEAD_LEN).enumerate() {
            let Ok(head) = <&[u8; HEAD_LEN]>::try_from(head) else { continue };
            if !self.sieve[mark(head)] {
                continue;
            }
            for spelling in self.by_head.get(head).map_or(&[][..], Vec::as_slice) {
                if text[at..].starts_with(&spelling.text) && seen.insert((spelling.secret, spelling.form)) {
                    let name = &self.names[spelling.secret];
                    let evidence = format!("{name} as {} in {place}, byte {at}", spelling.form);
                    found.push(Violation { rule: "secret_leaked", evidence });
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn secrets(secret: &[u8]) -> Secrets {
        let mut secrets = Secrets::default();
        secrets.add("a preimage", secret);
        secrets
    }

    proptest! {
        #[test]
        fn a_planted_secret_is_found_however_it_is_written(
            secret: [u8; 32], before in ".{0,40}", after in ".{0,40}", form in 0_usize..6,
        ) {
            let written = match form {
                0 => hex::encode(secret),
                1 => hex::encode_upper(secret),
                2 => base64::engine::general_purpose::STANDARD.encode(secret),
                3 => URL_SAFE_NO_PAD.encode(secret),
                4 => format!("{secret:?}"),
                _ => String::new(),
            };
            let mut text = before.into_bytes();
            if form == 5 {
                text.extend(secret);
            }
            text.extend(written.into_bytes());
            text.extend(after.into_bytes());
            let found = secrets(&secret).found_in("the log", &text);
            prop_assert_eq!(found.len(), 1, "{:?}", found);
            prop_assert_eq!(found[0].rule, "secret_leaked");
            prop_assert!(!found[0].evidence.contains(&hex::encode(secret)));
            prop_assert!(found[0].evidence.contains("a preimage"));
        }

        #[test]
        fn what_is_not_the_secret_is_not_found(secret: [u8; 32], flipped in 0_usize..32, bit in 0_u8..8) {
            let mut other = secret;
            other[flipped] ^= 1 << bit;
            let text = format!("{} {other:?} {}", hex::encode(other), STANDARD_NO_PAD.encode(other));
            prop_assert_eq!(secrets(&secret).found_in("the log", text.as_bytes()), vec![]);
        }
    }

    #[test]
    fn secrets_with_the_same_beginning_are_told_apart() {
        let (first, mut second) = ([7; 32], [7; 32]);
        second[31] = 8;
        let mut secrets = Secrets::default();
        secrets.add("first", &first);
        secrets.add("second", &second);
        let found = secrets.found_in("the log", hex::encode(second).as_bytes());
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].evidence.starts_with("second as hexadecimal"), "{found:?}");
        assert_eq!((secrets.len(), secrets.is_empty()), (2, false));
    }

    #[test]
    fn a_secret_that_chance_would_find_is_left_out() {
        assert!(secrets(b"short").is_empty());
    }
}
