//! From the merged layers to a [`Config`], finding every key that is unknown, missing or of the wrong kind.
//!
//! A key that is wrong is noted and replaced by the example's value, and reading goes on: so one run finds all
//! mistakes. A configuration with such a key is never used.

use super::layers::variable;
use super::load::Problem;
use super::mask;
use super::sections::{Config, Endpoint, FrontNode, Telemetry};
use figment::error::Kind;
use figment::value::{Dict, Value};
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;

/// Names this similar are suggested (Jaro-Winkler; 1 is equal).
const SIMILAR: f64 = 0.8;

/// What was read, and what was wrong on the way.
pub(super) struct Read {
    pub(super) config: Config,
    pub(super) problems: Vec<Problem>,
    /// Keys whose value is the example's.
    pub(super) replaced: BTreeSet<String>,
}

/// See the module.
pub(super) fn read(mut given: Dict, example: &Dict) -> Read {
    let mut reader = Reader { example, problems: Vec::new(), replaced: BTreeSet::new() };
    let nodes = given.remove("front_nodes");
    let config = Config {
        cluster: reader.section(&mut given, "cluster"),
        raft: reader.section(&mut given, "raft"),
        api: reader.section(&mut given, "api"),
        metrics: reader.section(&mut given, "metrics"),
        log: reader.section(&mut given, "log"),
        lnmux: reader.section(&mut given, "lnmux"),
        invoices: reader.section(&mut given, "invoices"),
        front_nodes: reader.front_nodes(nodes),
        links: reader.section(&mut given, "links"),
        telemetry: reader.telemetry(&mut given),
        shutdown: reader.section(&mut given, "shutdown"),
        dir: Default::default(),
    };
    for name in given.keys() {
        let known: Vec<&str> = example.keys().map(String::as_str).collect();
        reader.unknown("", name, &known);
    }
    Read { config, problems: reader.problems, replaced: reader.replaced }
}

struct Reader<'a> {
    example: &'a Dict,
    problems: Vec<Problem>,
    replaced: BTreeSet<String>,
}

impl Reader<'_> {
    fn section<T: DeserializeOwned>(&mut self, given: &mut Dict, name: &str) -> T {
        let model = self.example.get(name).and_then(Value::as_dict).cloned().unwrap_or_default();
        let value = given.remove(name).unwrap_or_else(|| Dict::new().into());
        let value = self.dict(name, value);
        self.table(name, value, &model)
    }

    fn telemetry(&mut self, given: &mut Dict) -> Telemetry {
        let model = self.example.get("telemetry").and_then(Value::as_dict).cloned().unwrap_or_default();
        let model = model.get("otlp").and_then(Value::as_dict).cloned().unwrap_or_default();
        let value = given.remove("telemetry").unwrap_or_else(|| Dict::new().into());
        let mut parts = self.dict("telemetry", value);
        let otlp = parts.remove("otlp").unwrap_or_else(|| Dict::new().into());
        for name in parts.keys() {
            self.unknown("telemetry", name, &["otlp"]);
        }
        let otlp = self.dict("telemetry.otlp", otlp);
        Telemetry { otlp: self.table("telemetry.otlp", otlp, &model) }
    }

    fn front_nodes(&mut self, nodes: Option<Value>) -> Vec<FrontNode> {
        let models = self.example.get("front_nodes").and_then(Value::as_array).and_then(|all| all.first());
        let model = models.and_then(Value::as_dict).cloned().unwrap_or_default();
        let endpoints = model.get("endpoints").and_then(Value::as_array).and_then(|all| all.first());
        let endpoint_model = endpoints.and_then(Value::as_dict).cloned().unwrap_or_default();
        let mut read = Vec::new();
        for (at, node) in self.list("front_nodes", nodes).into_iter().enumerate() {
            let path = format!("front_nodes[{at}]");
            let mut given = self.dict(&path, node);
            let mut endpoints = Vec::new();
            if let Some(list) = given.remove("endpoints") {
                let list_path = format!("{path}.endpoints");
                for (at, endpoint) in self.list(&list_path, Some(list)).into_iter().enumerate() {
                    let path = format!("{list_path}[{at}]");
                    let endpoint = self.dict(&path, endpoint);
                    endpoints.push(self.table::<Endpoint>(&path, endpoint, &endpoint_model));
                }
                given.insert("endpoints".into(), Vec::<Value>::new().into());
            }
            let mut node = self.table::<FrontNode>(&path, given, &model);
            node.endpoints = endpoints;
            read.push(node);
        }
        read
    }

    fn list(&mut self, path: &str, value: Option<Value>) -> Vec<Value> {
        match value {
            None => Vec::new(),
            Some(Value::Array(_, list)) => list,
            Some(_) => {
                self.replaced.insert(path.to_owned());
                let remedy = format!("write one [[{path}]] block for each");
                self.problems.push(Problem::new(path, "it must be a list of tables", remedy));
                Vec::new()
            }
        }
    }

    fn dict(&mut self, path: &str, value: Value) -> Dict {
        match value {
            Value::Dict(_, dict) => dict,
            _ => {
                self.replaced.insert(path.to_owned());
                let remedy = format!("write [{path}] and its keys below");
                self.problems.push(Problem::new(path, "it must be a table", remedy));
                Dict::new()
            }
        }
    }

    /// Reads one table, key by key if need be.
    fn table<T: DeserializeOwned>(&mut self, path: &str, mut given: Dict, model: &Dict) -> T {
        // Each turn mends one key; a table has no more than this many.
        for _ in 0..=given.len().saturating_add(model.len()) {
            match Value::from(given.clone()).deserialize::<T>() {
                Ok(read) => return read,
                Err(error) => self.mend(path, &error, &mut given, model),
            }
        }
        Value::from(model.clone()).deserialize().expect("the example has a value of every key")
    }

    fn mend(&mut self, path: &str, error: &figment::Error, given: &mut Dict, model: &Dict) {
        match &error.kind {
            Kind::UnknownField(name, known) => {
                given.remove(name);
                self.unknown(path, name, known);
            }
            Kind::MissingField(name) => {
                let key = format!("{path}.{name}");
                let remedy = match path.contains('[') {
                    true => "add it".to_owned(),
                    false => format!("set it in the file, by --set, or in {}", variable(&key)),
                };
                self.problem(&key, "it is missing".to_owned(), &remedy);
                self.replace(given, model, name);
            }
            kind => {
                let name = error.path.first().cloned().unwrap_or_default();
                let rest = error.path.get(1..).unwrap_or_default().join(".");
                let key = format!("{path}.{name}");
                let shown = if rest.is_empty() { key.clone() } else { format!("{key}.{rest}") };
                let (wrong, remedy) = explain(kind, &name);
                self.problem(&shown, wrong, &remedy);
                self.replaced.insert(key);
                self.replace(given, model, &name);
            }
        }
    }

    fn problem(&mut self, key: &str, wrong: String, remedy: &str) {
        self.replaced.insert(key.to_owned());
        self.problems.push(Problem::new(key, wrong, remedy));
    }

    fn replace(&self, given: &mut Dict, model: &Dict, name: &str) {
        match model.get(name) {
            Some(value) => given.insert(name.to_owned(), value.clone()),
            None => given.remove(name),
        };
    }

    fn unknown(&mut self, path: &str, name: &str, known: &[&str]) {
        let key = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        let similar = |known: &&&str| strsim::jaro_winkler(name, known);
        let best = known.iter().max_by(|a, b| similar(a).total_cmp(&similar(b)));
        let elsewhere = self.example.iter().find(|(_, section)| {
            section.as_dict().is_some_and(|section| section.contains_key(name)) && !path.is_empty()
        });
        let remedy = match (best.filter(|best| similar(best) >= SIMILAR), elsewhere) {
            (Some(best), _) => format!("did you mean {best:?}? There are: {}", known.join(", ")),
            (None, Some((section, _))) => format!("it belongs into [{section}]"),
            (None, None) => format!("remove it, or use one of: {}", known.join(", ")),
        };
        self.problems.push(Problem::new(key, "there is no such key", remedy));
    }
}

fn explain(kind: &Kind, name: &str) -> (String, String) {
    match kind {
        Kind::UnknownVariant(value, known) => {
            (format!("{value:?} is not allowed"), format!("use one of: {}", known.join(", ")))
        }
        // What was found may be the secret itself instead of its file's name.
        Kind::InvalidType(..) | Kind::InvalidValue(..) if mask::is_secret(name) => {
            ("it must be the path of a file".to_owned(), "write the path in quotes".to_owned())
        }
        Kind::InvalidType(found, expected) | Kind::InvalidValue(found, expected) => {
            (format!("it is {found}, but must be {expected}"), "correct the value".to_owned())
        }
        Kind::Message(why) if name == "pubkey" => {
            (why.clone(), "copy identity_pubkey (66 hexadecimal digits) from `lncli getinfo`".to_owned())
        }
        Kind::Message(why) if name == "listen" => (why.clone(), "write \"IP:PORT\"".to_owned()),
        other => (other.to_string(), "correct the value".to_owned()),
    }
}
