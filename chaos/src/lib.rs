//! What the multiplexer is tested with: things that behave like the rest of the Lightning network, on
//! purpose badly where that is asked for.

pub mod lndsim;
