use crate::payer::Deviation;
use crate::sim::swarm::PaymentMix;
use rand::Rng as _;
use rand::rngs::StdRng;

/// A way to pay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An honest payment of a stored invoice, in so many parts.
    Pay(usize),
    /// The same, and the application may think about it, and cancel.
    TwoPhase(usize),
    /// Of an invoice that nobody stored.
    Stateless(usize),
    /// More than asked for.
    Overpaid,
    /// By two payers at once.
    Twice,
    /// Again, after it was paid.
    Again,
    /// By somebody who does not do what the invoice says.
    Probe(Deviation),
    /// After its end.
    Expired,
    /// Cancelled meanwhile.
    Canceled,
    /// Not for the virtual node.
    Forward,
}

const PROBES: [Deviation; 8] = [
    Deviation::UnknownHash,
    Deviation::WrongSecret,
    Deviation::TooLittle,
    Deviation::TooMuch,
    Deviation::Underfunded,
    Deviation::TooSoon,
    Deviation::Canceled,
    Deviation::Incomplete,
];

impl Kind {
    /// One of them, by weight.
    pub(super) fn draw(mix: &PaymentMix, rng: &mut StdRng) -> Self {
        let parts = rng.random_range(2..=4);
        let again = if rng.random_bool(0.5) { Self::Twice } else { Self::Again };
        let weighted = [
            (mix.single, Self::Pay(1)),
            (mix.multi_part, Self::Pay(parts)),
            (mix.two_phase, Self::TwoPhase(parts - 1)),
            (mix.stateless, Self::Stateless(parts - 1)),
            (mix.overpaid, Self::Overpaid),
            (mix.duplicate, again),
            (mix.probe, Self::Probe(PROBES[rng.random_range(0..PROBES.len())])),
            (mix.expired, Self::Expired),
            (mix.cancelled, Self::Canceled),
            (mix.forward, Self::Forward),
        ];
        let all: u32 = weighted.iter().map(|(weight, _)| weight).sum();
        let mut left = rng.random_range(0..all.max(1));
        for (weight, kind) in weighted {
            if left < weight {
                return kind;
            }
            left -= weight;
        }
        Self::Pay(1)
    }

    /// Whether every call on the invoice is written down, and the application does with it what it likes.
    pub(super) fn has_history(self) -> bool {
        matches!(self, Self::TwoPhase(_) | Self::Twice | Self::Canceled)
    }
}
