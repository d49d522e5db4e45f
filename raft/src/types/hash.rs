use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, str::FromStr};

/// Text that is not the hexadecimal form of a value of this length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected_bytes} bytes in hexadecimal ({} characters)", expected_bytes * 2)]
pub struct ParseHexError {
    expected_bytes: usize,
}

macro_rules! hex_newtype {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// The first eight hexadecimal digits, for people.
            #[must_use]
            pub fn short(&self) -> String {
                let mut text = hex::encode(self.0);
                text.truncate(8);
                text
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseHexError;

            fn from_str(text: &str) -> Result<Self, ParseHexError> {
                let mut bytes = [0; $len];
                hex::decode_to_slice(text, &mut bytes).map_err(|_| ParseHexError { expected_bytes: $len })?;
                Ok(Self(bytes))
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = ParseHexError;

            fn try_from(bytes: &[u8]) -> Result<Self, ParseHexError> {
                bytes.try_into().map(Self).map_err(|_| ParseHexError { expected_bytes: $len })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    use serde::ser::SerializeTuple as _;
                    let mut tuple = serializer.serialize_tuple($len)?;
                    for byte in self.0 {
                        tuple.serialize_element(&byte)?;
                    }
                    tuple.end()
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
                } else {
                    struct Bytes;
                    impl<'de> de::Visitor<'de> for Bytes {
                        type Value = [u8; $len];

                        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                            write!(f, "{} bytes", $len)
                        }

                        fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                            let mut bytes = [0; $len];
                            for (at, byte) in bytes.iter_mut().enumerate() {
                                *byte = seq.next_element()?.ok_or_else(|| de::Error::invalid_length(at, &self))?;
                            }
                            Ok(bytes)
                        }
                    }
                    deserializer.deserialize_tuple($len, Bytes).map(Self)
                }
            }
        }
    };
}

hex_newtype!(
    /// SHA-256 of a preimage: the name of an invoice.
    PaymentHash,
    32
);
hex_newtype!(
    /// The public key of a Lightning node, compressed.
    NodePubkey,
    33
);
hex_newtype!(
    /// SHA-256 over the sorted circuit keys of a set: the name of one attempt to pay an invoice.
    SetId,
    32
);
hex_newtype!(
    /// Names a replica's data directory: random, made with it.
    StoreId,
    16
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_text_and_postcard_round_trip() {
        let hash = PaymentHash([0xab; 32]);
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert!("ab".parse::<PaymentHash>().is_err());
        let bytes = postcard::to_stdvec(&hash).unwrap();
        assert_eq!(bytes.len(), 32, "no length prefix on fixed-size values");
        assert_eq!(postcard::from_bytes::<PaymentHash>(&bytes).unwrap(), hash);
        let node = NodePubkey([2; 33]);
        assert_eq!(postcard::from_bytes::<NodePubkey>(&postcard::to_stdvec(&node).unwrap()).unwrap(), node);
    }
}
