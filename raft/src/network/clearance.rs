use parking_lot::RwLock;
use std::sync::Arc;
use tonic::Status;

/// What a replica may do.
///
/// A replica that lost its disk no longer knows what it promised: it could vote for a leader that lacks
/// entries which were committed by its own word. So an empty store does nothing until it is known that it
/// never had another, or that a leader has given back all that it can have had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum May {
    /// Nothing: it is not known yet who it is.
    Nothing,
    /// Take entries, but neither vote nor stand for election.
    Append,
    /// Everything.
    Vote,
}

/// [`May`], shared between those who grant it and those who ask.
#[derive(Clone, Debug)]
pub(crate) struct Clearance(Arc<RwLock<May>>);

impl Clearance {
    pub(crate) fn new(may: May) -> Self {
        Self(Arc::new(RwLock::new(may)))
    }

    pub(crate) fn grant(&self, may: May) {
        *self.0.write() = may;
    }

    pub(crate) fn get(&self) -> May {
        *self.0.read()
    }

    pub(super) fn check_append(&self) -> Result<(), Status> {
        match self.get() {
            May::Nothing => Err(Status::unavailable(
                "this replica has just started; it asks the others whether it is whom they know",
            )),
            May::Append | May::Vote => Ok(()),
        }
    }

    pub(super) fn check_vote(&self) -> Result<(), Status> {
        self.check_append()?;
        match self.get() {
            May::Vote => Ok(()),
            May::Nothing | May::Append => Err(Status::unavailable("this replica catches up before it votes")),
        }
    }
}
