use super::core::Core;
use crate::consensus::Program;
use crate::machine::level;
use crate::types::ReplicaId;
use mux_proto::mux::raft::v1 as pb;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::timeout;
use tonic::{Code, Status};

/// How long a replica may take to say how it stands, when whoever asks has others to ask.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);

/// When nothing can be done without its answer: over a bad network it takes seconds.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(5);

/// What the members said about themselves, the latest from each.
#[derive(Debug)]
pub(crate) struct Roster {
    own: (ReplicaId, Program),
    told: Mutex<BTreeMap<ReplicaId, Program>>,
    /// Why members refused to answer, the last word of each; who answered since is not among them.
    refusals: Mutex<BTreeMap<ReplicaId, String>>,
}

impl Roster {
    pub(super) fn new(id: ReplicaId, feature_level_max: u16) -> Self {
        let program = Program { version: env!("CARGO_PKG_VERSION").into(), feature_level_max };
        Self { own: (id, program), told: Mutex::default(), refusals: Mutex::default() }
    }

    /// The highest feature level that this replica says it knows.
    pub(super) fn feature_level_max(&self) -> u16 {
        self.own.1.feature_level_max
    }

    /// What a replica runs, as far as known.
    pub(super) fn program_of(&self, id: ReplicaId) -> Option<Program> {
        if id == self.own.0 { Some(self.own.1.clone()) } else { self.told.lock().get(&id).cloned() }
    }

    fn note(&self, id: ReplicaId, program: Program) {
        self.told.lock().insert(id, program);
        self.refusals.lock().remove(&id);
    }

    /// Somebody who is not there refuses nothing.
    fn note_refusal(&self, id: ReplicaId, status: &Status) {
        let refused = matches!(
            status.code(),
            Code::PermissionDenied
                | Code::FailedPrecondition
                | Code::AlreadyExists
                | Code::Unauthenticated
                | Code::InvalidArgument
        );
        if refused {
            self.refusals.lock().insert(id, status.message().to_owned());
        }
    }

    /// Why members refuse to speak with this replica.
    pub(super) fn refusals(&self) -> BTreeMap<ReplicaId, String> {
        self.refusals.lock().clone()
    }
}

/// What a replica runs, by its own word. One that says nothing is older than feature levels.
pub(super) fn program(standing: &pb::StandingResponse) -> Program {
    let known = u16::try_from(standing.feature_level_max).unwrap_or(u16::MAX);
    Program { version: standing.version.clone(), feature_level_max: known.max(level::FIRST) }
}

impl Core {
    /// Asks a replica how it stands, and remembers what it runs.
    pub(crate) async fn standing_of(
        &self,
        id: ReplicaId,
        address: &str,
    ) -> Result<pb::StandingResponse, Status> {
        self.standing_within(ANSWER_TIMEOUT, id, address).await
    }

    /// The same, with a patience of the caller's.
    pub(super) async fn standing_within(
        &self,
        patience: Duration,
        id: ReplicaId,
        address: &str,
    ) -> Result<pb::StandingResponse, Status> {
        let mut client = self.gateway_at(id, address)?;
        let message = pb::StandingRequest { header: Some(self.peers.header(id)) };
        let answer = timeout(patience, client.standing(message))
            .await
            .map_err(|_| Status::unavailable("no answer in time"))?
            .inspect_err(|status| {
                self.peers.stores().heed(id, status);
                self.roster.note_refusal(id, status);
            })?
            .into_inner();
        self.roster.note(id, program(&answer));
        Ok(answer)
    }
}
