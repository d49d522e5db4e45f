use super::{MemberChange, MemberList, MemberView, PROMOTE_LAG_MAX, Refusal, RefusalKind};
use crate::types::ReplicaId;
use std::collections::BTreeSet;

/// Whether the leader makes a change, seeing this. `Ok(None)`: nothing is left to do. Otherwise what to say about
/// the cluster as it will be.
///
/// # Errors
/// [`Refusal`], with what to do instead.
pub fn judge(list: &MemberList, change: &MemberChange) -> Result<Option<Vec<String>>, Refusal> {
    match change {
        MemberChange::AddLearner { id, address } => judge_add(list, *id, address),
        MemberChange::Promote { id } => judge_promotion(list, *id),
        MemberChange::Remove { id, force } => judge_removal(list, *id, *force),
    }
}

/// Whether a member may stop for a while, seeing this: what to say about the time without it.
///
/// # Errors
/// [`Refusal`], unless `force`.
pub fn judge_drain(members: &[MemberView], id: ReplicaId, force: bool) -> Result<Vec<String>, Refusal> {
    let voters = voters(members);
    if !voters.contains(&id) {
        return Ok(Vec::new());
    }
    // Who drains already is there only for a while.
    let leaves = |other: &ReplicaId| members.iter().any(|member| member.id == *other && member.leaving);
    let staying: BTreeSet<_> =
        reachable(members).into_iter().filter(|other| *other != id && !leaves(other)).collect();
    let without = Outlook::of(&voters, &staying);
    match without.spare() {
        Some(0) => {
            let back = format!("until replica {id} is back one more failure stops the cluster");
            Ok(vec![format!("{}: {back}", without.text())])
        }
        Some(_) => Ok(Vec::new()),
        None => {
            let risk = format!(
                "without replica {id} the cluster has no quorum ({}): no payment is decided until it is back",
                without.text()
            );
            let remedy = format!("{}, or repeat with --force", without.remedy(members, id));
            if force { Ok(vec![risk]) } else { Err(needs_force(format!("{risk}; {remedy}"))) }
        }
    }
}

fn judge_add(list: &MemberList, id: ReplicaId, address: &str) -> Result<Option<Vec<String>>, Refusal> {
    let sound = address
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0));
    if id == 0 || !sound {
        let text = "a member needs an id from 1 on, and the host:port of its Raft listener";
        return Err(Refusal::new(RefusalKind::Invalid, text));
    }
    if let Some(known) = list.get(id) {
        if known.address == address {
            return Ok(None);
        }
        let text = format!(
            "replica {id} is a member already, at {}; give the new one another id, such as {}",
            known.address,
            list.free_id()
        );
        return Err(Refusal::new(RefusalKind::Exists, text));
    }
    if list.retired.contains(&id) {
        let text = format!(
            "replica {id} was removed, and an id never comes back; give the new one another id, such as {}",
            list.free_id()
        );
        return Err(Refusal::new(RefusalKind::Exists, text));
    }
    if let Some(other) = list.members.iter().find(|member| member.address == address) {
        let text = format!("{address} is the address of replica {}; every replica has its own", other.id);
        return Err(Refusal::new(RefusalKind::Exists, text));
    }
    Ok(Some(Vec::new()))
}

fn judge_promotion(list: &MemberList, id: ReplicaId) -> Result<Option<Vec<String>>, Refusal> {
    let member = list.get(id).ok_or_else(|| {
        let text = format!("replica {id} is not a member; add it first: muxcli member add {id} HOST:PORT");
        Refusal::new(RefusalKind::NotFound, text)
    })?;
    let mut after = voters(&list.members);
    let before = Outlook::of(&after, &reachable(&list.members));
    if member.voter {
        return Ok(None);
    }
    if !member.reachable {
        let text = format!(
            "replica {id} does not answer at {}; see that it runs and is reached there, then promote it",
            member.address
        );
        return Err(Refusal::new(RefusalKind::NotYet, text));
    }
    let lag = member.lag.unwrap_or(u64::MAX);
    if lag > PROMOTE_LAG_MAX {
        let behind =
            member.lag.map_or_else(|| "has no log yet".into(), |lag| format!("is {lag} entries behind"));
        let text = format!("replica {id} {behind}; wait until it is at most {PROMOTE_LAG_MAX} behind");
        return Err(Refusal::new(RefusalKind::NotYet, text));
    }
    after.insert(id);
    let outlook = Outlook::of(&after, &reachable(&list.members));
    judge_outlook(&before, &outlook, &list.members, id, true).map(Some)
}

fn judge_removal(list: &MemberList, id: ReplicaId, force: bool) -> Result<Option<Vec<String>>, Refusal> {
    let Some(member) = list.get(id) else {
        if list.retired.contains(&id) {
            return Ok(None);
        }
        return Err(Refusal::new(RefusalKind::NotFound, format!("replica {id} is not a member")));
    };
    if !member.voter {
        return Ok(Some(Vec::new()));
    }
    let mut after = voters(&list.members);
    let before = Outlook::of(&after, &reachable(&list.members));
    after.remove(&id);
    if after.is_empty() {
        let text = format!("replica {id} is the last voter; add another one first, or shut the cluster down");
        return Err(Refusal::new(RefusalKind::Impossible, text));
    }
    let outlook = Outlook::of(&after, &reachable(&list.members));
    judge_outlook(&before, &outlook, &list.members, id, force).map(Some)
}

/// The change itself must be acknowledged by a quorum of the new voters; and it should not use up what failures
/// the cluster can still bear.
fn judge_outlook(
    before: &Outlook,
    after: &Outlook,
    members: &[MemberView],
    id: ReplicaId,
    force: bool,
) -> Result<Vec<String>, Refusal> {
    let Some(spare) = after.spare() else {
        let text = format!(
            "the cluster would lose its quorum ({}), and without one the change itself cannot be made, not even \
             with --force; {}",
            after.text(),
            after.remedy(members, id)
        );
        return Err(Refusal::new(RefusalKind::Impossible, text));
    };
    let mut warnings = Vec::new();
    if spare == 0 {
        let risk = format!("{}: the next failure stops the cluster", after.text());
        // Taking out one that is gone makes nothing worse; neither does a further voter (`force`).
        if !before.silent.contains(&id) && !force {
            let remedy = "add another replica first, or repeat with --force";
            return Err(needs_force(format!("{risk}; {remedy}")));
        }
        warnings.push(risk);
    }
    let count = after.voters.len();
    if count > 1 && count.is_multiple_of(2) {
        let fewer = count.saturating_sub(1);
        warnings.push(format!("{count} voters survive no more failures than {fewer}: have an odd number"));
    }
    Ok(warnings)
}

/// Who votes, and who of them answers.
struct Outlook {
    voters: BTreeSet<ReplicaId>,
    silent: BTreeSet<ReplicaId>,
}

impl Outlook {
    fn of(voters: &BTreeSet<ReplicaId>, reachable: &BTreeSet<ReplicaId>) -> Self {
        Self { voters: voters.clone(), silent: voters.difference(reachable).copied().collect() }
    }

    /// How many of those that answer may fail; `None`: they are too few already.
    fn spare(&self) -> Option<usize> {
        let quorum = self.voters.len() / 2 + 1;
        self.voters.len().checked_sub(self.silent.len())?.checked_sub(quorum)
    }

    fn text(&self) -> String {
        let count = self.voters.len();
        let answering = count.saturating_sub(self.silent.len());
        format!("{answering} of {count} voters answer, {} are needed", count / 2 + 1)
    }

    /// Those that are asked to stop are not to blame.
    fn remedy(&self, members: &[MemberView], id: ReplicaId) -> String {
        let which = |is_it: fn(&MemberView) -> bool| {
            let found = members.iter().filter(|member| member.voter && member.id != id && is_it(member));
            found.map(|member| member.id.to_string()).collect::<Vec<_>>().join(" and ")
        };
        let (down, leaving) = (which(|member| !member.reachable), which(|member| member.leaving));
        match (down.is_empty(), leaving.is_empty()) {
            (false, _) => format!("first bring back, or remove, replica {down}"),
            // The mark of one that was started again expires within seconds.
            (true, false) => format!("wait until replica {leaving}, which drains, is back for some seconds"),
            (true, true) => "add another replica first".to_owned(),
        }
    }
}

impl MemberList {
    fn get(&self, id: ReplicaId) -> Option<&MemberView> {
        self.members.iter().find(|member| member.id == id)
    }

    /// The least id that is greater than all that were ever used.
    fn free_id(&self) -> ReplicaId {
        let used = self.members.iter().map(|member| member.id).chain(self.retired.iter().copied());
        used.max().unwrap_or(0).saturating_add(1)
    }
}

fn needs_force(text: String) -> Refusal {
    Refusal::new(RefusalKind::NeedsForce, text)
}

fn voters(members: &[MemberView]) -> BTreeSet<ReplicaId> {
    members.iter().filter(|member| member.voter).map(|member| member.id).collect()
}

fn reachable(members: &[MemberView]) -> BTreeSet<ReplicaId> {
    members.iter().filter(|member| member.reachable).map(|member| member.id).collect()
}

#[cfg(test)]
mod tests;
