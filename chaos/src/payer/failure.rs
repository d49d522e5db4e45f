//! Failures as a payer reads them (BOLT 4, "Returning Errors") and what a payer does about them.
//!
//! Written apart from the virtual node's encoder on purpose: an error that both shared would not be found.

use super::onion::{HopSecrets, mac, obfuscate_failure, sub_key};
use crate::ledger::{FailureSource, PartFailure};

/// `incorrect_or_unknown_payment_details`.
pub const INCORRECT_DETAILS: u16 = 0x4000 | 15;

/// `mpp_timeout`.
pub const MPP_TIMEOUT: u16 = 23;

/// `temporary_channel_failure`.
pub const TEMPORARY_CHANNEL_FAILURE: u16 = 0x1000 | 7;

/// BOLT 4: the failure is permanent.
const PERM: u16 = 0x4000;

/// What a payer does after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Tries another way.
    OtherHint,
    /// Tries again; the way is fine.
    Again,
    /// Ends the payment.
    GiveUp,
}

/// As LND's and LDK's payers do: a final answer of the payee ends the payment, except `mpp_timeout`; a
/// permanent failure of a node on the way only rules that way out.
#[must_use]
pub fn action(failure: &PartFailure) -> Action {
    match failure.source {
        FailureSource::VirtualNode if failure.code == MPP_TIMEOUT => Action::Again,
        FailureSource::VirtualNode | FailureSource::Unreadable => Action::GiveUp,
        // The part was lost on chain; whether the payee has it is for the ledger to find out.
        FailureSource::Upstream => Action::GiveUp,
        FailureSource::FrontNode | FailureSource::Downstream if failure.code & PERM != 0 => Action::GiveUp,
        FailureSource::FrontNode | FailureSource::Downstream => Action::OtherHint,
    }
}

/// Nobody on the route wrote this.
pub(super) fn unreadable() -> PartFailure {
    PartFailure { source: FailureSource::Unreadable, code: 0, data: String::new() }
}

/// Decodes a failure that the virtual node wrote: adds the front node's layer, as LND does on the way back,
/// and then reads what comes out as a payer would.
pub(super) fn decode(packet: &[u8], secrets: &HopSecrets) -> PartFailure {
    let received = obfuscate_failure(packet, &secrets.0[0]);
    let Some((hop, code, data)) = read(&received, &secrets.0) else { return unreadable() };
    let source = if hop == 0 { FailureSource::FrontNode } else { FailureSource::VirtualNode };
    PartFailure { source, code, data: hex::encode(data) }
}

/// Takes layer after layer off until one's MAC verifies: the hop, the code and what follows it.
fn read(received: &[u8], secrets: &[[u8; 32]]) -> Option<(usize, u16, Vec<u8>)> {
    let mut packet = received.to_vec();
    for (hop, secret) in secrets.iter().enumerate() {
        packet = obfuscate_failure(&packet, secret);
        let (tag, body) = packet.split_at_checked(32)?;
        if mac(&sub_key(b"um", secret), &[body]) == tag {
            let length = usize::from(u16::from_be_bytes(body.get(..2)?.try_into().ok()?));
            let message = body.get(2..2 + length)?;
            let (code, data) = message.split_at_checked(2)?;
            return Some((hop, u16::from_be_bytes(code.try_into().ok()?), data.to_vec()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(source: FailureSource, code: u16) -> PartFailure {
        PartFailure { source, code, data: String::new() }
    }

    #[test]
    fn only_the_payees_word_and_permanent_failures_end_a_payment() {
        assert_eq!(action(&failure(FailureSource::FrontNode, TEMPORARY_CHANNEL_FAILURE)), Action::OtherHint);
        assert_eq!(action(&failure(FailureSource::VirtualNode, MPP_TIMEOUT)), Action::Again);
        assert_eq!(action(&failure(FailureSource::VirtualNode, INCORRECT_DETAILS)), Action::GiveUp);
        assert_eq!(action(&failure(FailureSource::FrontNode, 0x4000 | 10)), Action::GiveUp);
        assert_eq!(action(&unreadable()), Action::GiveUp);
    }

    #[test]
    fn garbage_is_nobodys_failure() {
        let secrets = HopSecrets([[1; 32], [2; 32]]);
        for length in [0, 1, 31, 32, 33, 292, 1000] {
            assert_eq!(decode(&vec![7; length], &secrets), unreadable());
        }
    }

    /// BOLT 4's example: five hops, the last one fails.
    #[test]
    fn reads_the_example_of_bolt_4() {
        let secrets = [
            "53eb63ea8a3fec3b3cd433b85cd62a4b145e1dda09391b348c4e1cd36a03ea66",
            "a6519e98832a0b179f62123b3567c106db99ee37bef036e783263602f3488fae",
            "3a6b412548762f0dbccce5c7ae7bb8147d1caf9b5471c34120b30bc9c04891cc",
            "21e13c2d7cfe7e18836df50872466117a295783ab8aab0e7ecc8c725503ad02d",
            "b5756b9b542727dbafc6765a49488b023a725d631af688fc031217e90770c328",
        ]
        .map(|text| {
            let mut secret = [0; 32];
            hex::decode_to_slice(text, &mut secret).unwrap();
            secret
        });
        let mut body = vec![0, 2, 0x20, 0x02, 0, 254];
        body.resize(2 + 256 + 2, 0);
        let mut packet = mac(&sub_key(b"um", &secrets[4]), &[&body]).to_vec();
        packet.extend_from_slice(&body);
        for secret in secrets.iter().rev() {
            packet = obfuscate_failure(&packet, secret);
        }
        assert!(
            hex::encode(&packet)
                .starts_with("9c5add3963fc7f6ed7f148623c84134b5647e1306419dbe2174e523fa9e2fbed")
        );
        assert_eq!(read(&packet, &secrets), Some((4, 0x2002, Vec::new())));
    }
}
