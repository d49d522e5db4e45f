//! What kind of cluster to start.

use super::Executable;
use std::path::PathBuf;

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
    /// Replicas are started as an older version, which knows feature levels up to this one, until they are
    /// [upgraded](super::Cluster::upgrade_replica).
    pub feature_level_max: Option<u16>,
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
            feature_level_max: None,
            for_load: false,
        }
    }
}
