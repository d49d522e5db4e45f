//! What an answer, or none, means for a history.

use crate::cluster::CallError;
use tonic::Code;

/// What a call came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// It is done.
    Done,
    /// The invoice is not in a state for it, or nobody knows the invoice.
    Refused,
    /// It did nothing: it was not sent, or the replica promises so (`UNAVAILABLE`, see README).
    Nothing,
    /// It may have been done, or may still be.
    Unknown,
}

/// By the documented meaning of each code; what the connection says of itself says nothing about the call.
pub(super) fn heard<T>(result: &Result<T, CallError>) -> Heard {
    let error = match result {
        Ok(_) => return Heard::Done,
        Err(error) if error.never_sent() => return Heard::Nothing,
        Err(error) => error,
    };
    match error.said() {
        Some(Code::FailedPrecondition | Code::NotFound) => Heard::Refused,
        // A wish to settle is kept although it is not carried out yet.
        Some(Code::Unavailable) if error.to_string().contains("not decided") => Heard::Unknown,
        Some(Code::Unavailable) => Heard::Nothing,
        _ => Heard::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Status;

    #[test]
    fn only_a_replicas_own_words_end_the_doubt() {
        let heard = |status: Status| heard::<()>(&Err(status.into()));
        assert_eq!(heard(Status::failed_precondition("settled")), Heard::Refused);
        assert_eq!(heard(Status::unavailable("no leader")), Heard::Nothing);
        assert_eq!(heard(Status::unavailable("not decided: no height; the wish is kept")), Heard::Unknown);
        assert_eq!(heard(Status::aborted("outcome unknown")), Heard::Unknown);
        let broken = std::io::Error::new(std::io::ErrorKind::BrokenPipe, "broken");
        assert_eq!(heard(Status::from_error(Box::new(broken))), Heard::Unknown);
        assert_eq!(super::heard::<()>(&Err(CallError::NoAnswer("late".into()))), Heard::Unknown);
        assert_eq!(super::heard::<()>(&Ok(())), Heard::Done);
    }
}
