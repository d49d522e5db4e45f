//! Files for one more replica of a cluster that `muxd init` made: what a replica has that is there already, with its
//! own number, addresses and certificate.

use super::files::{Secrecy, new_dir, write_new};
use super::pki::{Authority, api_certificate, covers};
use super::{InitError, ReplicaFiles, ReplicaPlan, file_error, render};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A replica to add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddReplica {
    /// The cluster's directory, with its `ca.key`.
    pub dir: PathBuf,
    /// The configuration to go by; `None`: that of the first replica in the directory.
    pub like: Option<PathBuf>,
    /// The replica.
    pub replica: ReplicaPlan,
    /// Further host names and addresses for its certificates.
    pub hosts: Vec<String>,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddedReplica {
    /// Its files.
    pub files: ReplicaFiles,
    /// Where the others reach it.
    pub raft_address: String,
    /// Its API has another certificate than the others': their certificate does not name its host.
    pub own_api_cert: bool,
}

/// Writes `replica-<id>` into the cluster's directory.
///
/// # Errors
/// [`InitError`]; nothing is ever overwritten.
pub fn add_replica(plan: &AddReplica) -> Result<AddedReplica, InitError> {
    let AddReplica { dir, replica, hosts, .. } = plan;
    let own = dir.join(format!("replica-{}", replica.id));
    let like = match &plan.like {
        Some(like) => like.clone(),
        None => first_config(dir)?,
    };
    let template = read(&like)?;
    let table: toml::Table =
        template.parse().map_err(|error| InitError::Plan(format!("{}: {error}", like.display())))?;
    let name = table.get("cluster").and_then(|cluster| cluster.get("name")).and_then(|name| name.as_str());
    let name = name.ok_or_else(|| InitError::Plan(format!("{}: it names no cluster", like.display())))?;
    check(replica, &table)?;
    let ca_cert = read(&dir.join("ca.pem"))?;
    let authority = Authority::load(&ca_cert, &read(&dir.join("ca.key"))?)?;
    let raft = authority.replica_certificate(replica.id, replica.raft_hosts(hosts))?;
    let base = like.parent().unwrap_or_else(|| Path::new("."));
    let api_hosts = api_hosts(replica, hosts);
    let former = read(&base.join("api.pem")).ok().zip(read(&base.join("api.key")).ok());
    let (api, own_api_cert) = match former.filter(|(cert, _)| covers(cert, &api_hosts)) {
        Some(pair) => (pair, false),
        None => {
            let pair = api_certificate(name, api_hosts)?;
            ((pair.cert, pair.key), true)
        }
    };
    let seed = read(&dir.join("seed"))?;
    let macaroon = dir.join("admin.macaroon");
    let macaroon = std::fs::read(&macaroon).map_err(file_error(&macaroon))?;

    new_dir(&own).map_err(|error| match error {
        InitError::NotEmpty(dir) => InitError::Taken(dir),
        error => error,
    })?;
    let config = write_new(&own, "muxd.toml", config(&template, replica).as_bytes(), Secrecy::Public)?;
    write_new(&own, "seed", seed.as_bytes(), Secrecy::Secret)?;
    write_new(&own, "ca.pem", ca_cert.as_bytes(), Secrecy::Public)?;
    write_new(&own, "raft.pem", raft.cert.as_bytes(), Secrecy::Public)?;
    write_new(&own, "raft.key", raft.key.as_bytes(), Secrecy::Secret)?;
    write_new(&own, "api.pem", api.0.as_bytes(), Secrecy::Public)?;
    write_new(&own, "api.key", api.1.as_bytes(), Secrecy::Secret)?;
    write_new(&own, "admin.macaroon", &macaroon, Secrecy::Secret)?;
    for file in front_node_files(&table) {
        let from = base.join(&file);
        let content = std::fs::read(&from).map_err(file_error(&from))?;
        write_new(&own, &file, &content, Secrecy::Secret)?;
    }
    let data_dir = own.join("data");
    let files = ReplicaFiles { id: replica.id, dir: own, config, data_dir };
    Ok(AddedReplica { files, raft_address: replica.raft_address.clone(), own_api_cert })
}

/// What to do next, for people.
#[must_use]
pub fn next_steps_of_added(added: &AddedReplica) -> String {
    let AddedReplica { files, raft_address, own_api_cert } = added;
    let mut text = format!(
        "Replica {id} is in {dir}\n\n\
         1. Carry that directory to its machine, and start it there:\n     muxd run --config {config}\n\
         2. Add it, asking any replica of the cluster: it copies the log, then it votes:\n     \
         muxcli --config .../muxd.toml member add {id} {raft_address}\n",
        id = files.id,
        dir = files.dir.display(),
        config = files.config.display(),
    );
    if *own_api_cert {
        text.push_str(&format!(
            "3. Its API has a certificate of its own: append {} to the api.pem that your clients trust.\n",
            files.dir.join("api.pem").display()
        ));
    }
    text
}

fn check(replica: &ReplicaPlan, like: &toml::Table) -> Result<(), InitError> {
    let cluster = like.get("cluster");
    let number = replica.id.to_string();
    let founders = cluster.and_then(|cluster| cluster.get("initial_members")).and_then(|m| m.as_table());
    let taken = founders.is_some_and(|founders| {
        founders.contains_key(&number)
            || founders.values().any(|address| address.as_str() == Some(&replica.raft_address))
    });
    if replica.id == 0 || taken {
        let text = format!(
            "replica {number} at {}: the number or the address belongs to one of the first replicas; a number is never \
             used again",
            replica.raft_address
        );
        return Err(InitError::Plan(text));
    }
    Ok(())
}

/// The text of the new configuration: the other one's, but for what is its own.
fn config(template: &str, replica: &ReplicaPlan) -> String {
    let quoted = |text: String| render::quoted(&text);
    let file = |name: &str| render::quoted(name);
    let mut values: BTreeMap<(&str, &str), String> = BTreeMap::from([
        (("cluster", "replica_id"), replica.id.to_string()),
        (("cluster", "join"), "true".into()),
        (("cluster", "seed_file"), file("seed")),
        (("raft", "listen"), quoted(replica.raft_listen.to_string())),
        (("raft", "tls_ca"), file("ca.pem")),
        (("raft", "tls_cert"), file("raft.pem")),
        (("raft", "tls_key"), file("raft.key")),
        (("raft", "data_dir"), file("data")),
        (("api", "listen"), quoted(replica.api_listen.to_string())),
        (("api", "tls_cert"), file("api.pem")),
        (("api", "tls_key"), file("api.key")),
        (("metrics", "listen"), quoted(replica.metrics_listen.to_string())),
    ]);
    let zone =
        (!replica.zone.is_empty()).then(|| format!("{} = {}\n", replica.id, quoted(replica.zone.clone())));
    let mut text = String::new();
    let mut section = "";
    for line in template.lines() {
        if line.starts_with('[') {
            // What the template leaves to defaults goes to the end of its section.
            push_rest(&mut text, &mut values, section);
            section = line.trim_start_matches('[').split(']').next().unwrap_or_default();
        }
        let key = line.split_once('=').map(|(key, _)| key.trim()).unwrap_or_default();
        match values.remove(&(section, key)) {
            Some(value) => text.push_str(&format!("{key} = {value}\n")),
            None => text.push_str(&format!("{line}\n")),
        }
        if line.starts_with("[cluster.zones]") {
            text.push_str(zone.as_deref().unwrap_or_default());
        }
    }
    push_rest(&mut text, &mut values, section);
    let missing: Vec<String> = values.iter().map(|((section, _), _)| (*section).to_owned()).collect();
    for section in missing {
        let mut rest = String::new();
        push_rest(&mut rest, &mut values, &section);
        if !rest.is_empty() {
            text.push_str(&format!("\n[{section}]\n{rest}"));
        }
    }
    text
}

fn push_rest(text: &mut String, values: &mut BTreeMap<(&str, &str), String>, section: &str) {
    values.retain(|(of, key), value| {
        if *of == section {
            text.push_str(&format!("{key} = {value}\n"));
        }
        *of != section
    });
}

/// Macaroons and certificates that lie beside the configuration.
fn front_node_files(like: &toml::Table) -> Vec<String> {
    let nodes = like.get("front_nodes").and_then(|nodes| nodes.as_array()).into_iter().flatten();
    let mut files = Vec::new();
    for node in nodes {
        files.push(node.get("macaroon"));
        let endpoints =
            node.get("endpoints").and_then(|endpoints| endpoints.as_array()).into_iter().flatten();
        files.extend(endpoints.map(|endpoint| endpoint.get("tls_cert")));
    }
    let beside = |name: &&str| Path::new(name).components().count() == 1;
    let mut files: Vec<String> = files
        .into_iter()
        .flatten()
        .filter_map(|file| file.as_str())
        .filter(beside)
        .map(str::to_owned)
        .collect();
    files.sort();
    files.dedup();
    files
}

fn api_hosts(replica: &ReplicaPlan, further: &[String]) -> Vec<String> {
    let mut hosts = replica.raft_hosts(further);
    hosts.extend(["localhost".into(), "127.0.0.1".into(), "::1".into()]);
    let ip = replica.api_listen.ip();
    if !ip.is_unspecified() {
        hosts.push(ip.to_string());
    }
    hosts.sort();
    hosts.dedup();
    hosts
}

/// Of the replica with the least number.
fn first_config(dir: &Path) -> Result<PathBuf, InitError> {
    let entries = std::fs::read_dir(dir).map_err(file_error(dir))?;
    let number = |path: &PathBuf| {
        let name = path.file_name()?.to_str()?;
        name.strip_prefix("replica-")?.parse::<u64>().ok()
    };
    let replicas = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let first = replicas.filter_map(|path| number(&path).map(|number| (number, path))).min();
    let first = first.map(|(_, path)| path.join("muxd.toml")).filter(|path| path.exists());
    first.ok_or_else(|| {
        let dir = dir.display();
        InitError::Plan(format!(
            "{dir}: no replica-<number>/muxd.toml is there; name a configuration with --like"
        ))
    })
}

fn read(path: &Path) -> Result<String, InitError> {
    std::fs::read_to_string(path).map_err(file_error(path))
}
