//! What the operating system gives as randomness, from a seed.
//!
//! Hash maps, openraft's timeouts, tokio's choices and key generation all draw from the operating system, through the C
//! library's `getrandom`, `getentropy` or `syscall`. A program that is to be deterministic defines these itself
//! (`entropy/symbols.rs`, included by its `main.rs` and by nothing that may ever hold money); they ask here whether their
//! thread was given a seed.

use rand::rngs::StdRng;
use rand::{RngCore as _, SeedableRng as _};
use std::cell::RefCell;

struct Stream {
    rng: StdRng,
    drawn: u64,
}

thread_local! {
    static STREAM: RefCell<Option<Stream>> = const { RefCell::new(None) };
}

/// From now on everything that this thread draws follows from the seed, if the program has the symbols. To be called
/// before the thread does anything else: the standard library draws the keys of its hash maps once a thread.
pub fn seed_thread(seed: [u8; 32]) {
    let fresh = Stream { rng: StdRng::from_seed(seed), drawn: 0 };
    STREAM.with(|stream| *stream.borrow_mut() = Some(fresh));
}

/// Fills this from the thread's stream. False: the thread has no seed, and nothing was written.
pub fn fill(bytes: &mut [u8]) -> bool {
    // Called from C, at the very end of a thread too: it must not panic.
    let filled = STREAM.try_with(|stream| {
        let mut stream = stream.try_borrow_mut().ok()?;
        let stream = stream.as_mut()?;
        stream.rng.fill_bytes(bytes);
        stream.drawn += u64::try_from(bytes.len()).unwrap_or(0);
        Some(())
    });
    matches!(filled, Ok(Some(())))
}

/// Bytes that this thread has drawn since it was given its seed.
#[must_use]
pub fn drawn() -> u64 {
    STREAM.with(|stream| stream.borrow().as_ref().map_or(0, |stream| stream.drawn))
}

/// Whether what the standard library draws on a thread follows from the seed: false in a program without the
/// symbols.
#[must_use]
pub fn is_in_force() -> bool {
    use std::hash::BuildHasher as _;
    let draw = || {
        let thread = std::thread::spawn(|| {
            seed_thread([7; 32]);
            std::collections::hash_map::RandomState::new().hash_one(1)
        });
        thread.join().ok()
    };
    let first = draw();
    first.is_some() && first == draw()
}
