//! The controller: the CSI Controller service, and prefetching by `CachedArtifact`.
