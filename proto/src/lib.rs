//! Wire contracts of the multiplexer: the subset of LND that it calls, the lnmux-compatible API, its own
//! API (`mux.v1`), the replicas' transport and the controls of the simulated LND.
//!
//! The code is generated at build time from the `.proto` files beside this crate; their comments are the
//! documentation.

/// LND: node, channels, final resolutions, start-up state.
pub mod lnrpc {
    tonic::include_proto!("lnrpc");
}

/// LND: the HTLC interceptor and HTLC events.
pub mod routerrpc {
    tonic::include_proto!("routerrpc");
}

/// LND: block notifications.
pub mod chainrpc {
    tonic::include_proto!("chainrpc");
}

/// The predecessor's API.
pub mod lnmux {
    tonic::include_proto!("lnmux");
}

/// The multiplexer's own API.
pub mod mux {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("mux.v1");
    }
    /// Between replicas.
    pub mod raft {
        /// Version 1.
        pub mod v1 {
            tonic::include_proto!("mux.raft.v1");
        }
    }
}

/// Controls of the simulated LND.
pub mod lndsim {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("lndsim.v1");
    }
}

/// Encoded descriptors of every file, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
