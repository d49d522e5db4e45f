//! Failures, by what can be done about them.

use std::process::ExitCode;
use tonic::{Code, Status};

/// Why a command failed. The number is the exit code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// 1: the cluster said no, or this machine did.
    #[error("{0}")]
    Refused(String),
    /// 2: the command line makes no sense.
    #[error("{0}")]
    Usage(String),
    /// 3: it may have happened. Repeat the command to find out.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// 4: nothing happened. Try again, or another replica.
    #[error("unavailable: {0}")]
    Unavailable(String),
}

impl Failure {
    /// See the variants.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.number())
    }

    /// As [`Failure::exit_code`].
    #[must_use]
    pub fn number(&self) -> u8 {
        match self {
            Self::Refused(_) => 1,
            Self::Usage(_) => 2,
            Self::Unknown(_) => 3,
            Self::Unavailable(_) => 4,
        }
    }

    /// Of a call that changes nothing.
    pub(super) fn of_read(status: Status) -> Self {
        match status.code() {
            Code::Unavailable | Code::DeadlineExceeded | Code::Aborted | Code::Cancelled => {
                Self::Unavailable(text(&status))
            }
            _ if is_local(&status) => Self::Unavailable(text(&status)),
            _ => Self::Refused(text(&status)),
        }
    }

    /// Of a call that changes something.
    pub(super) fn of_write(status: Status) -> Self {
        match status.code() {
            Code::Aborted | Code::DeadlineExceeded | Code::Cancelled => Self::Unknown(text(&status)),
            // The connection broke under the call: the request may have arrived.
            _ if is_local(&status) => Self::Unknown(text(&status)),
            Code::Unavailable => Self::Unavailable(text(&status)),
            _ => Self::Refused(text(&status)),
        }
    }
}

/// Made by the client's transport rather than sent by the server.
fn is_local(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}

fn text(status: &Status) -> String {
    let message = status.message().trim_start_matches("outcome unknown: ").to_owned();
    let named = match status.code() {
        Code::Unauthenticated => "not permitted: ",
        Code::Unimplemented => "this cluster does not know the call: ",
        Code::DeadlineExceeded => "no answer in time: ",
        _ => "",
    };
    format!("{named}{message}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_tell_what_can_be_done() {
        let write = |code| Failure::of_write(Status::new(code, "x")).number();
        let read = |code| Failure::of_read(Status::new(code, "x")).number();
        for refused in [
            Code::NotFound,
            Code::AlreadyExists,
            Code::FailedPrecondition,
            Code::InvalidArgument,
            Code::Unauthenticated,
            Code::OutOfRange,
            Code::Internal,
        ] {
            assert_eq!((write(refused), read(refused)), (1, 1), "{refused:?}");
        }
        assert_eq!((write(Code::Aborted), read(Code::Aborted)), (3, 4));
        assert_eq!((write(Code::DeadlineExceeded), read(Code::DeadlineExceeded)), (3, 4));
        assert_eq!((write(Code::Unavailable), read(Code::Unavailable)), (4, 4));
        assert_eq!(Failure::Usage("x".into()).number(), 2);
    }

    #[test]
    fn a_connection_that_breaks_under_a_write_leaves_it_unknown() {
        let broken = || Status::from_error(Box::new(std::io::Error::other("broken pipe")));
        assert_eq!(Failure::of_write(broken()).number(), 3);
        assert_eq!(Failure::of_read(broken()).number(), 4);
    }
}
