//! A replica's configuration: the commented example with this replica's values.

use super::plan::{ClusterPlan, ReplicaPlan};
use crate::config::{EXAMPLE, FrontNode};
use std::fmt::Write as _;

/// The text of `muxd.toml`.
pub(super) fn config(plan: &ClusterPlan, replica: &ReplicaPlan) -> String {
    let mut values: Vec<(String, String)> = [
        ("cluster.name", quoted(&plan.name)),
        ("cluster.network", quoted(plan.network.name())),
        ("cluster.replica_id", replica.id.to_string()),
        ("raft.listen", quoted(&replica.raft_listen.to_string())),
        ("api.listen", quoted(&replica.api_listen.to_string())),
        ("metrics.listen", quoted(&replica.metrics_listen.to_string())),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect();
    values.extend(plan.settings.iter().cloned());

    let mut text = String::new();
    let mut section = "";
    for line in EXAMPLE.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
        }
        let key = line
            .split_once(" = ")
            .filter(|_| !line.starts_with('#'))
            .map(|(key, _)| format!("{section}.{key}"));
        let value = key.as_ref().and_then(|key| values.iter().rev().find(|(name, _)| name == key));
        if section == "cluster.zones" && line.starts_with('[') {
            push(&mut text, line);
            for member in plan.replicas.iter().filter(|member| !member.zone.is_empty()) {
                push(&mut text, &format!("{} = {}", member.id, quoted(&member.zone)));
            }
            continue;
        }
        match (section, &key, value) {
            (_, Some(_), Some((name, value))) => {
                let name = name.rsplit_once('.').map_or(name.as_str(), |(_, last)| last);
                push(&mut text, &format!("{name} = {value}"));
            }
            // The example's own members give way to the plan's.
            ("cluster.initial_members", Some(_), _) => {}
            ("cluster.initial_members", None, _) if line.starts_with('[') => {
                push(&mut text, line);
                for member in &plan.replicas {
                    push(&mut text, &format!("{} = {}", member.id, quoted(&member.raft_address)));
                }
            }
            _ => push(&mut text, line),
        }
    }
    for node in &plan.front_nodes {
        text.push_str(&front_node(node));
    }
    text
}

/// Whether the example has this `section.key`.
pub(super) fn is_key(key: &str) -> bool {
    let Ok(example) = EXAMPLE.parse::<toml::Table>() else { return false };
    // Sections may be within sections.
    let example = toml::Value::Table(example);
    let found = key.split('.').try_fold(&example, |value, name| value.get(name));
    found.is_some_and(|value| !value.is_table())
}

fn push(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

fn front_node(node: &FrontNode) -> String {
    let mut text = format!(
        "\n[[front_nodes]]\npubkey = {}\nalias = {}\nzone = {}\nmacaroon = {}\nfee_base_msat = {}\nfee_ppm = {}\ncltv_delta = {}\n",
        quoted(&node.pubkey.to_string()),
        quoted(&node.alias),
        quoted(&node.zone),
        quoted(&node.macaroon.to_string_lossy()),
        node.fee_base_msat,
        node.fee_ppm,
        node.cltv_delta,
    );
    for endpoint in &node.endpoints {
        let cert = quoted(&endpoint.tls_cert.to_string_lossy());
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "[[front_nodes.endpoints]]\naddress = {}\ntls_cert = {cert}\n",
            quoted(&endpoint.address)
        );
    }
    text
}

/// A TOML string.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
