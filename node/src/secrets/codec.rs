use super::terms::{TermsError, pack, unpack};
use hmac::{Hmac, Mac as _};
use mux_raft::machine::model::{InvoiceKind, InvoiceTerms};
use mux_raft::types::{PaymentHash, PaymentSecret, Preimage};
use rand::CryptoRng;
use sha2::Sha256;
use std::fmt;
use subtle::{Choice, ConstantTimeEq as _};
use zeroize::Zeroizing;

type Key = Zeroizing<[u8; 32]>;
type Packed = Zeroizing<[u8; 16]>;

/// Makes and opens payment secrets. Holds three independent keys; wiped from memory when dropped.
#[derive(Clone)]
pub struct SecretCodec {
    preimage: Key,
    encryption: Key,
    authentication: Key,
}

impl SecretCodec {
    pub(crate) fn new(preimage: Key, encryption: Key, authentication: Key) -> Self {
        Self { preimage, encryption, authentication }
    }

    /// A new secret with its own hash, for a stored or stateless invoice.
    ///
    /// # Errors
    /// Terms that no secret can say, and hold invoices: those are for a caller's hash.
    pub fn issue(
        &self,
        terms: &InvoiceTerms,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<(PaymentSecret, PaymentHash), TermsError> {
        if terms.kind == InvoiceKind::Hold {
            return Err(TermsError::Kind(terms.kind));
        }
        let packed = pack(terms)?;
        let mut iv = [0; 16];
        rng.fill_bytes(&mut iv);
        let secret = self.seal(&iv, &packed);
        let hash = self.own_preimage(&secret).payment_hash();
        Ok((secret, hash))
    }

    /// The secret of a hold invoice for a caller's hash. The same terms and hash give the same secret.
    ///
    /// # Errors
    /// Terms that no secret can say, and other kinds of invoices.
    pub fn issue_for_hash(
        &self,
        terms: &InvoiceTerms,
        hash: &PaymentHash,
    ) -> Result<PaymentSecret, TermsError> {
        if terms.kind != InvoiceKind::Hold {
            return Err(TermsError::Kind(terms.kind));
        }
        let packed = pack(terms)?;
        Ok(self.seal(&self.external_iv(&packed, hash), &packed))
    }

    /// What a secret says, if it is genuine and belongs to this hash; else `None`, whatever is wrong.
    #[must_use]
    pub fn open(&self, hash: &PaymentHash, secret: &PaymentSecret) -> Option<InvoiceTerms> {
        let packed = self.packed_terms(secret);
        let terms = unpack(&packed);
        // Both ways are always computed, and the answer is picked at the very end.
        let own = self.own_preimage(secret).payment_hash().0.ct_eq(&hash.0);
        let external = self.external_iv(&packed, hash).ct_eq(&secret.0[..16]);
        let is_external = Choice::from(u8::from(terms.is_some_and(|t| t.kind == InvoiceKind::Hold)));
        let genuine = (own & !is_external) | (external & is_external);
        terms.filter(|_| genuine.into())
    }

    /// The preimage of an own invoice; `None` if the secret is not genuine for this hash, or the hash is a
    /// caller's. Only to be asked for once the settle decision is committed and applied.
    #[must_use]
    pub fn preimage(&self, hash: &PaymentHash, secret: &PaymentSecret) -> Option<Preimage> {
        let terms = self.open(hash, secret)?;
        (terms.kind != InvoiceKind::Hold).then(|| self.own_preimage(secret))
    }

    fn own_preimage(&self, secret: &PaymentSecret) -> Preimage {
        // Over the ciphertext: one to one with the terms, so it binds them just as well.
        Preimage(*mac(&self.preimage, &[b"own preimage v1", &secret.0]))
    }

    fn external_iv(&self, packed: &Packed, hash: &PaymentHash) -> [u8; 16] {
        let tag = mac(&self.authentication, &[b"external hash v1", packed.as_slice(), &hash.0]);
        let [iv @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = *tag;
        iv
    }

    fn seal(&self, iv: &[u8; 16], packed: &Packed) -> PaymentSecret {
        let pad = self.pad(iv);
        let mut secret = PaymentSecret([0; 32]);
        let (left, right) = secret.0.split_at_mut(16);
        left.copy_from_slice(iv);
        for ((out, plain), pad) in right.iter_mut().zip(packed.iter()).zip(pad.iter()) {
            *out = plain ^ pad;
        }
        secret
    }

    fn packed_terms(&self, secret: &PaymentSecret) -> Packed {
        let (iv, sealed) = secret.0.split_at(16);
        let pad = self.pad(iv);
        let mut packed = Zeroizing::new([0; 16]);
        for ((out, cipher), pad) in packed.iter_mut().zip(sealed).zip(pad.iter()) {
            *out = cipher ^ pad;
        }
        packed
    }

    /// One-time pad for an IV. HMAC is the pseudo-random function here because the IV is longer than a
    /// stream cipher's nonce; only 16 bytes are needed.
    fn pad(&self, iv: &[u8]) -> Key {
        mac(&self.encryption, &[b"terms pad v1", iv])
    }
}

impl fmt::Debug for SecretCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretCodec(…)")
    }
}

fn mac(key: &Key, parts: &[&[u8]]) -> Key {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_slice()).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    Zeroizing::new(mac.finalize().into_bytes().into())
}

#[cfg(test)]
mod tests {
    use super::super::KEY_EPOCH;
    use super::*;
    use mux_raft::types::Msat;

    fn terms(kind: InvoiceKind) -> InvoiceTerms {
        InvoiceTerms {
            kind,
            amount_msat: Msat(1),
            expires_at_ms: 1_000,
            min_final_cltv: 80,
            key_epoch: KEY_EPOCH,
        }
    }

    /// A secret that says "hold" must be genuine as a hold invoice's, and the other way round, even if the
    /// other kind's check would pass.
    #[test]
    fn the_kind_decides_which_check_counts() {
        let codec = SecretCodec::new([1; 32].into(), [2; 32].into(), [3; 32].into());
        let packed = pack(&terms(InvoiceKind::Hold)).unwrap();
        let secret = codec.seal(&[9; 16], &packed);
        let own_hash = codec.own_preimage(&secret).payment_hash();
        assert_eq!(codec.open(&own_hash, &secret), None);
        assert_eq!(codec.preimage(&own_hash, &secret), None);

        let packed = pack(&terms(InvoiceKind::Stored)).unwrap();
        let hash = PaymentHash([7; 32]);
        let secret = codec.seal(&codec.external_iv(&packed, &hash), &packed);
        assert_eq!(codec.open(&hash, &secret), None);
        assert_eq!(codec.preimage(&hash, &secret), None);
    }
}
