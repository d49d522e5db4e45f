//! What kind of cluster to start.

use super::{Executable, Loopback, Site, StartAs};
use std::{path::PathBuf, sync::Arc};

/// The size of the cluster, where it lives, and what is not as by default.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// What every process is started from.
    pub executable: Executable,
    /// How many replicas.
    pub replicas: u16,
    /// How many simulated LND nodes.
    pub lnds: u32,
    /// Channels of each.
    pub channels: u32,
    /// Fee of the hop to the virtual node, in invoices' hints.
    pub fee_base_msat: u32,
    /// The same, millionths.
    pub fee_ppm: u32,
    /// Where everything is kept; `None`: a temporary directory, removed at the end.
    pub dir: Option<PathBuf>,
    /// Further settings of every replica, `("section.key", TOML value)`.
    pub settings: Vec<(String, String)>,
    /// Replicas reach LND nodes through [`super::Proxy`]s that can be cut.
    pub proxied: bool,
    /// As many of the LND nodes, the last ones, are in no replica's configuration.
    pub spare_lnds: u32,
    /// Of everything random in the simulated LND nodes.
    pub seed: u64,
    /// What replicas are started as, until they are [upgraded](super::Cluster::upgrade_replica).
    pub start_as: StartAs,
    /// Where the processes run, and what lies between them.
    pub site: Arc<dyn Site>,
    /// For load: the LND nodes keep no journal, and nobody follows their outcomes one by one.
    pub for_load: bool,
}

impl ClusterOptions {
    /// Three replicas, two LND nodes.
    #[must_use]
    pub fn new(executable: Executable) -> Self {
        Self {
            executable,
            replicas: 3,
            lnds: 2,
            channels: 2,
            fee_base_msat: 100,
            fee_ppm: 10,
            dir: None,
            settings: Vec::new(),
            proxied: false,
            spare_lnds: 0,
            seed: 1,
            start_as: StartAs::default(),
            site: Arc::new(Loopback),
            for_load: false,
        }
    }
}
