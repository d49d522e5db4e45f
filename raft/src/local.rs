//! Consensus of one: commands are applied at once, in memory, by the real state machine.
//!
//! For tests of links and APIs. Failures of the real thing can be switched on: no quorum, and outcomes
//! that stay unknown although the entry was committed.

use crate::consensus::{Committed, Consensus, Member, Program, ProposeError, RaftStatus, StateCell};
use crate::machine::command::COMMAND_FORMAT;
use crate::machine::{Command, Envelope, LogPosition, Reply, RequestId, level};
use crate::members::{MemberChange, MemberChanged, MemberError, MemberList, MemberView, judge};
use crate::types::{LogIndex, LogTimeMs, ReplicaId};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use tokio::sync::watch;

/// Why applying cannot be fatal here.
const IN_ORDER: &str = "entries are made here, of this version's format and in order";

/// How proposals end for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// Committed and answered.
    Fair,
    /// Refused: no quorum.
    NoQuorum,
    /// Committed, but the proposer hears "unknown".
    AnswerLost,
    /// Committed, but the proposer hears of it only when the weather changes.
    AnswerLate,
}

/// See the module.
#[derive(Debug)]
pub struct LocalConsensus {
    cell: StateCell,
    inner: Mutex<Inner>,
    status: watch::Sender<RaftStatus>,
}

#[derive(Debug)]
struct Inner {
    weather: Weather,
    term: u64,
    time_ms: LogTimeMs,
}

impl LocalConsensus {
    /// A new cluster of the replica `id`, at this log time.
    #[must_use]
    pub fn new(id: ReplicaId, time_ms: LogTimeMs) -> Self {
        let program =
            Program { version: env!("CARGO_PKG_VERSION").into(), feature_level_max: COMMAND_FORMAT };
        let member = Member { address: "local".into(), voter: true, program: Some(program) };
        let members = BTreeMap::from([(id, member)]);
        let (status, _) = watch::channel(RaftStatus {
            id,
            term: 1,
            leader: Some(id),
            leads: true,
            quorum: true,
            members,
            feature_level: level::FIRST,
            ..RaftStatus::default()
        });
        let inner = Mutex::new(Inner { weather: Weather::Fair, term: 1, time_ms });
        Self { cell: StateCell::default(), inner, status }
    }

    /// Switches failures on or off.
    pub fn set_weather(&self, weather: Weather) {
        self.inner.lock().weather = weather;
        self.status.send_modify(|status| status.quorum = weather != Weather::NoQuorum);
    }

    /// Lets log time pass; [`Command::Tick`] makes the state machine notice.
    pub fn advance(&self, by_ms: LogTimeMs) {
        let mut inner = self.inner.lock();
        inner.time_ms = inner.time_ms.saturating_add(by_ms);
        drop(inner);
        self.commit(Command::Tick, None);
    }

    /// A new leader's term begins.
    pub fn next_term(&self) {
        let term = {
            let mut inner = self.inner.lock();
            inner.term = inner.term.saturating_add(1);
            inner.term
        };
        self.status.send_modify(|status| status.term = term);
        self.cell.write(|state| {
            let index = state.applied().index.saturating_add(1);
            state.apply(LogPosition { term, index }, None, self.cell.archive().as_ref()).expect(IN_ORDER)
        });
    }

    /// Commits a command whatever the weather.
    pub fn commit(&self, command: Command, request_id: Option<RequestId>) -> Committed {
        let (term, time_ms) = {
            let inner = self.inner.lock();
            (inner.term, inner.time_ms)
        };
        let envelope = Envelope { format: command.level(), time_ms, request_id, command };
        let (at, reply) = self.cell.write(|state| {
            let at = LogPosition { term, index: state.applied().index.saturating_add(1) };
            let archive = self.cell.archive();
            let applied = state.apply(at, Some(&envelope), archive.as_ref()).expect(IN_ORDER);
            archive.append(applied.archived).expect(IN_ORDER);
            (at, applied.reply)
        });
        self.status.send_modify(|status| {
            status.applied = at.index;
            status.committed = at.index;
            status.last_log_index = at.index;
        });
        Committed { at, reply: reply.unwrap_or(Reply::Done) }
    }
}

#[async_trait::async_trait]
impl Consensus for LocalConsensus {
    async fn propose(
        &self,
        command: Command,
        request_id: Option<RequestId>,
    ) -> Result<Committed, ProposeError> {
        let weather = self.inner.lock().weather;
        match weather {
            Weather::Fair => Ok(self.commit(command, request_id)),
            Weather::NoQuorum => Err(ProposeError::Unavailable("no quorum".into())),
            Weather::AnswerLost => {
                self.commit(command, request_id);
                Err(ProposeError::Unknown("the answer was lost".into()))
            }
            Weather::AnswerLate => {
                let mut changes = self.status.subscribe();
                let committed = self.commit(command, request_id);
                while self.inner.lock().weather == Weather::AnswerLate {
                    // The sender lives as long as `self`.
                    let _ = changes.changed().await;
                }
                Ok(committed)
            }
        }
    }

    async fn read_barrier(&self) -> Result<LogIndex, ProposeError> {
        let weather = self.inner.lock().weather;
        match weather {
            Weather::Fair | Weather::AnswerLate => Ok(self.cell.read(|state| state.applied().index)),
            Weather::NoQuorum | Weather::AnswerLost => Err(ProposeError::Unavailable("no quorum".into())),
        }
    }

    fn state(&self) -> &StateCell {
        &self.cell
    }

    fn status(&self) -> watch::Receiver<RaftStatus> {
        self.status.subscribe()
    }

    async fn transfer_leader(&self, _target: Option<ReplicaId>) -> Result<ReplicaId, ProposeError> {
        Err(ProposeError::Unavailable("there is nobody else".into()))
    }

    async fn members(&self) -> Result<Vec<MemberView>, ProposeError> {
        if self.inner.lock().weather == Weather::NoQuorum {
            return Err(ProposeError::Unavailable("no leader is known".into()));
        }
        let status = self.status.borrow();
        let view = |(id, member): (&ReplicaId, &Member)| MemberView {
            id: *id,
            address: member.address.clone(),
            voter: member.voter,
            leader: status.leader == Some(*id),
            matched: Some(status.last_log_index),
            lag: Some(0),
            heard_ms: Some(0),
            reachable: true,
            leaving: status.leaving.contains(id),
        };
        Ok(status.members.iter().map(view).collect())
    }

    /// By the real rules; the others are there in name only.
    async fn change_members(&self, change: MemberChange) -> Result<MemberChanged, MemberError> {
        let retired = self.cell.read(|state| state.retired_replicas().clone());
        let list = MemberList { members: self.members().await?, retired };
        let Some(warnings) = judge(&list, &change)? else { return Ok(MemberChanged::default()) };
        if let MemberChange::Remove { id, .. } = change {
            self.commit(Command::RetireReplica { replica: id }, None);
        }
        self.status.send_modify(|status| match change {
            MemberChange::AddLearner { id, address } => {
                status.members.insert(id, Member { address, ..Member::default() });
            }
            MemberChange::Promote { id } => {
                status.members.entry(id).and_modify(|member| member.voter = true);
            }
            MemberChange::Remove { id, .. } => {
                status.members.remove(&id);
            }
        });
        Ok(MemberChanged { warnings })
    }

    fn leave(&self) {
        self.status.send_modify(|status| {
            status.leaving.insert(status.id);
        });
    }
}
