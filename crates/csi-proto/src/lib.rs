//! The wire types, clients and servers of CSI v1 and of kubelet's plugin registration v1.
//!
//! Everything here is generated from `proto/`. Messages that carry
//! secrets have no `Debug`: formatting one with `{:?}` does not compile.

/// The Container Storage Interface.
pub mod csi {
    /// Version 1 (specification 1.13): Identity, Controller and Node.
    #[allow(missing_docs, unreachable_pub, rust_2018_idioms, clippy::all, clippy::pedantic)]
    pub mod v1 {
        tonic::include_proto!("csi.v1");
    }
}

/// Kubelet's plugin registration, which a CSI driver serves and kubelet calls.
#[allow(missing_docs, unreachable_pub, rust_2018_idioms, clippy::all, clippy::pedantic)]
pub mod pluginregistration {
    tonic::include_proto!("pluginregistration");
}
