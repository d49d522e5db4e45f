use super::PaymentHash;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroize;

macro_rules! secret_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Eq, Serialize, Deserialize)]
        pub struct $name(pub [u8; 32]);

        impl PartialEq for $name {
            /// Constant time.
            fn eq(&self, other: &Self) -> bool {
                self.0.ct_eq(&other.0).into()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                self.0.zeroize();
            }
        }
    };
}

secret_newtype!(
    /// What a payer buys. Leaves a replica only after the decision to settle is committed and applied.
    Preimage
);
secret_newtype!(
    /// The payment secret of an invoice (BOLT 4 `payment_data`). For this cluster's own invoices it
    /// carries the invoice's terms, encrypted, and the preimage follows from it and the cluster's seed.
    PaymentSecret
);

impl Preimage {
    /// The hash this preimage pays.
    #[must_use]
    pub fn payment_hash(&self) -> PaymentHash {
        PaymentHash(Sha256::digest(self.0).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_print() {
        assert_eq!(format!("{:?}", Preimage([7; 32])), "Preimage(…)");
        assert_eq!(format!("{:?}", PaymentSecret([7; 32])), "PaymentSecret(…)");
    }
}
