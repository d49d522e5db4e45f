use super::CodecError;
use crate::machine::Envelope;
use crate::machine::command::COMMAND_FORMAT;
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;

/// A command as consensus carries it: opaque bytes, decoded only when it is applied. A replica that does not
/// know a command thus stores and forwards it all the same, and stops when it would have to apply it.
#[derive(Clone)]
pub(crate) struct LoggedCommand {
    bytes: Bytes,
    decoded: Option<Arc<Envelope>>,
}

impl LoggedCommand {
    /// Encodes a command, for its proposer.
    pub(crate) fn new(envelope: Envelope) -> Result<Self, CodecError> {
        let bytes = postcard::to_stdvec(&envelope).map_err(|_| CodecError::Malformed("command"))?;
        Ok(Self { bytes: bytes.into(), decoded: Some(Arc::new(envelope)) })
    }

    /// A command as it was encoded elsewhere.
    pub(crate) fn from_bytes(bytes: Bytes) -> Self {
        Self { bytes, decoded: None }
    }

    /// The encoded command.
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The command itself.
    ///
    /// # Errors
    /// A format this program does not know, or bytes that are no command.
    pub(crate) fn decode(&self) -> Result<Arc<Envelope>, CodecError> {
        if let Some(envelope) = &self.decoded {
            return Ok(Arc::clone(envelope));
        }
        let (format, _) =
            postcard::take_from_bytes::<u16>(&self.bytes).map_err(|_| CodecError::Malformed("command"))?;
        if format > COMMAND_FORMAT {
            return Err(CodecError::Format(format));
        }
        match postcard::take_from_bytes::<Envelope>(&self.bytes) {
            Ok((envelope, [])) => Ok(Arc::new(envelope)),
            Ok(_) | Err(_) => Err(CodecError::Malformed("command")),
        }
    }
}

impl PartialEq for LoggedCommand {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl fmt::Debug for LoggedCommand {
    /// Only the size: commands may carry secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "command of {} bytes", self.bytes.len())
    }
}

impl fmt::Display for LoggedCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
