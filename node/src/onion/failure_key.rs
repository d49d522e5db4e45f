use super::cipher::{self, KeyType, Secret};
use super::failure::FailureMessage;
use std::fmt;

/// Length of a failure packet: HMAC, message and padding (256 together) with their lengths. LND's
/// interceptor takes no other.
pub const FAILURE_PACKET_BYTES: usize = 32 + 2 + MESSAGE_AND_PAD_BYTES + 2;

const MESSAGE_AND_PAD_BYTES: usize = 256;

/// The secret shared with a payer: encrypts failures on their way back to it (BOLT 4, "Returning
/// Errors"). Wiped when dropped; never printed.
#[derive(Clone)]
pub struct FailureKey(Secret);

impl FailureKey {
    pub(super) fn new(shared: Secret) -> Self {
        Self(shared)
    }

    /// The failure packet of the hop that fails: `hmac ‖ len ‖ message ‖ padlen ‖ pad`, then this hop's
    /// layer.
    #[must_use]
    pub fn encrypt(&self, message: &FailureMessage) -> [u8; FAILURE_PACKET_BYTES] {
        let message = message.encode();
        let mut packet = [0; FAILURE_PACKET_BYTES];
        let (mac, body) = packet.split_at_mut(32);
        put(body, 0, &length(message.len()));
        put(body, 2, &message);
        put(body, 2 + message.len(), &length(MESSAGE_AND_PAD_BYTES - message.len()));
        mac.copy_from_slice(&cipher::mac(cipher::derive(KeyType::Um, &self.0).as_slice(), &[body]));
        self.wrap(&mut packet);
        packet
    }

    /// Adds (or takes off, which is the same) one hop's layer.
    pub fn wrap(&self, packet: &mut [u8]) {
        cipher::xor_stream(&cipher::derive(KeyType::Ammag, &self.0), packet);
    }
}

fn put(target: &mut [u8], at: usize, bytes: &[u8]) {
    target[at..at + bytes.len()].copy_from_slice(bytes);
}

/// At most 256.
fn length(bytes: usize) -> [u8; 2] {
    let [.., high, low] = bytes.to_be_bytes();
    [high, low]
}

impl fmt::Debug for FailureKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FailureKey(…)")
    }
}
